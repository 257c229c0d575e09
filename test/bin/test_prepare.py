import subprocess
import sys
import time

import pytest

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin.prepare import get_parser, main
from espnet_tse_ser.errors import run


@pytest.fixture
def mini(mini_corpora):
    return mini_corpora


def test_iemocap(mini, tmp_path):
    root = str(mini / "IEMOCAP_full_release")
    main(["iemocap", "--root", root, "--output_dir", str(tmp_path), "--expected_total", "320"])
    assert len(read_table(tmp_path / "utt2emo")) == 320
    assert set(read_table(tmp_path / "utt2fold").values()) == set("12345")
    assert read_table(tmp_path / "spk2gender")["Ses03M"] == "m"


def test_librispeech_parts_and_pieces(mini, tmp_path):
    options = ["librispeech", "--root", str(mini / "LibriSpeech"), "--subsets", "train-mini"]
    for part in ("1", "2"):
        split = ["--parts", "70,30", "--part", part, "--output_dir", str(tmp_path / part)]
        main([*options, *split])
    first, second = (set(read_table(tmp_path / part / "spk2utt")) for part in "12")
    assert len(first) == 140 and len(second) == 60 and not first & second
    pieces = ["--piece_seconds", "1.5", "--min_piece_seconds", "1"]
    main([*options, *pieces, "--output_dir", str(tmp_path / "p")])
    for line in read_table(tmp_path / "p" / "segments").values():
        start, end = map(float, line.split()[1:])
        assert 1 <= end - start <= 1.5


def test_esd(mini, tmp_path):
    options = ["esd", "--root", str(mini / "ESD"), "--output_dir", str(tmp_path / "esd")]
    main([*options, "--complete", "false", "--labels", "ang neu"])
    assert set(read_table(tmp_path / "esd/utt2emo").values()) == {"ang", "neu"}
    assert read_table(tmp_path / "esd/spk2gender")["esd0020"] == "m"
    assert run(main, options) == 2  # complete by default


def test_errors_are_one_line(tmp_path, capsys):
    options = ["--root", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    speech, noise = "iemocap librispeech ravdess esd", "esc50 musan urbansound8k folder"
    for corpus in f"{speech} {noise}".split():
        assert run(main, [corpus, *options]) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith(f"error: {tmp_path}: is not a")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["librispeech", "--parts", "a,b"],
            "argument --parts: expected a list of 1 or more, each a number above 0",
        ),
        (
            ["librispeech", "--complete", "all"],
            "expected true or false, or one of speakers, got 'all'",
        ),
        (["ravdess", "--rot", "x"], "required"),
        (
            ["esd", "--language", "german"],
            "--language: expected one of english, mandarin, all, got 'german'",
        ),
        (["urbansound8k", "--classes", "siren,rain"], "--classes: expected a list of 1 or more"),
        (["esd", "--complete", "maybe"], "--complete: expected true or false, got 'maybe'"),
    ],
)
def test_wrong_options(options, message, capsys):
    with pytest.raises(SystemExit) as error:
        get_parser().parse_args(options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_ravdess_defaults():
    args = get_parser().parse_args(["ravdess", "--root", "r", "--output_dir", "o"])
    assert args.labels == ("ang", "hap", "neu", "sad")
    assert args.merge_calm is None and args.trim_silence is False and args.expected_total == 1440


def test_help_is_fast():
    start = time.monotonic()
    command = [sys.executable, "-m", "espnet_tse_ser.bin.prepare", "ravdess", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 2
    assert "--trim_silence" in done.stdout
