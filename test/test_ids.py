import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.ids import LONGEST, check_id


@pytest.mark.parametrize(
    "text", ["a", "03-01", "Ses01F_impro01_F000", "ü.b+c=d@e:f", "-dQw4", "x" * LONGEST]
)
def test_ids(text):
    check_id(text, "utt2spk: line 1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("x" * (LONGEST + 1), "longer"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("/x/y", "separates directories"),
        ("a/../b", "separates directories"),
        ("a\\b", "separates directories"),
        ("a,b", "comma"),
        ("a b", r"U\+0020"),
        ("a\u00a0b", r"U\+00A0"),
        ("a\u202eb", r"U\+202E"),
        ("a\ufeff", r"U\+FEFF"),
        ("a\x07", r"U\+0007"),
        ("a\0", r"U\+0000"),
        ("a\ud800", r"U\+D800"),
    ],
)
def test_no_ids(text, reason):
    with pytest.raises(UserError, match=f"^utt2spk: line 1: .*cannot be an id: it .*{reason}"):
        check_id(text, "utt2spk: line 1")
