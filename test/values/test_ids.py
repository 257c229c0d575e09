import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.ids import LONGEST, check_fold, check_id


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
        ("e\u0301", "composed form"),
        ("\u212b", "composed form"),
    ],
)
def test_no_ids(text, reason):
    with pytest.raises(UserError, match=f"^utt2spk: line 1: .*cannot be an id: it .*{reason}"):
        check_id(text, "utt2spk: line 1")


@pytest.mark.parametrize("text", ["0", "1", "10", "24"])
def test_folds(text):
    check_fold(text, "utt2fold: line 1")


@pytest.mark.parametrize(
    "text", ["", "01", "00", "-1", "+1", "1.0", "1e1", "1 ", "1\n", "1_0", "A", "\u0663", "\u00b2"]
)
def test_no_folds(text):
    with pytest.raises(UserError, match="^utt2fold: line 1: .*cannot be a fold.*whole number"):
        check_fold(text, "utt2fold: line 1")


def test_what_is_known_at_once_is_what_the_slow_check_accepts():
    """All characters of ASCII, at the beginning and after it."""
    for text in [prefix + chr(code) for code in range(128) for prefix in ("", "a")]:
        accepted = text.isprintable() and not set(text) & set("/\\, ") and text[0] != "."
        try:
            check_id(text, "x")
        except UserError:
            assert not accepted, text
        else:
            assert accepted, text
