"""The files that a timeline is written to, and what the command refuses."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from espnet_tse_ser import errors
from espnet_tse_ser.bin import timeline
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.presence import Presence

RATE = 16000


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, joint_dir):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    soundfile.write("my talk.flac", 0.1 * rng.standard_normal((9 * 22050, 2)), 22050)
    soundfile.write("e.wav", 0.1 * rng.standard_normal(20000), RATE)

    def run(*words, model_dir=joint_dir):
        command = [f"--model_dir={model_dir}", "--output_dir=out", "--window_seconds=3", *words]
        status = errors.run(timeline.main, command)
        return status, *capsys.readouterr()

    return run


def test_what_is_written(run, tmp_path):
    status, out, _ = run(
        "my talk.flac", "--enrollment", "e.wav", "--presence_db=-60", "--target=A B"
    )
    printed = json.loads(out)
    names = [f"out/my talk.{kind}" for kind in ("json", "tsv", "rttm", "png")]
    assert status == 0 and printed.pop("files") == names
    result = json.loads((tmp_path / names[0]).read_text())
    segments = result.pop("segments")
    assert result == printed and result["seconds"] == 9 and result["sample_rate"] == RATE
    assert result["settings"]["presence_db"] == -60 and result["warnings"] == []
    assert sum(s["end"] - s["start"] for s in segments) == pytest.approx(result["target_seconds"])
    assert result["label"] in result["probabilities"]
    assert all(-1 <= s["similarity"] <= 1 for s in segments)
    rows = read_tsv(tmp_path / names[1])
    assert [r["label"] for r in rows] == [s["label"] for s in segments] and len(rows) >= 2
    assert float(rows[0]["p_ang"]) == segments[0]["probabilities"]["ang"]
    lines = [line.split() for line in (tmp_path / names[2]).read_text().splitlines()]
    assert all(line[:3] == ["SPEAKER", "my_talk", "1"] and line[7] == "A_B" for line in lines)
    assert sum(float(line[4]) for line in lines) == pytest.approx(result["target_seconds"])
    assert (tmp_path / names[3]).read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(n[4:] for n in names)


def test_an_enrollment_from_the_recording(run, tmp_path):
    """As a file with that stretch, or several."""
    samples, rate = soundfile.read("my talk.flac")
    soundfile.write("s.wav", samples[2 * rate : 4 * rate], rate, subtype="FLOAT")
    soundfile.write("t.wav", samples[int(5.5 * rate) : 7 * rate], rate, subtype="FLOAT")
    for stretches, files in ((["2-4"], ["s.wav"]), (["2-4", "5.5-7"], ["s.wav", "t.wav"])):
        found = []
        for words in (["--enroll_from", *stretches], ["--enrollment", *files]):
            assert run("my talk.flac", "--presence_db=-60", *words)[0] == 0
            found.append(json.loads((tmp_path / "out/my talk.json").read_text())["segments"])
        assert found[0] == found[1] and found[0]


def test_a_target_that_is_never_there(run, tmp_path):
    status, out, _ = run("my talk.flac", "--enrollment", "e.wav", "--presence_db=100")
    result = json.loads(out)
    assert status == 0 and (result["label"], result["target_seconds"]) == (None, 0)
    (warning,) = result["warnings"]
    assert warning.startswith(
        "target found nowhere: give a longer enrollment"
    ) and warning.endswith("or lower --presence_db or --least_similarity (my talk.flac)")
    assert (tmp_path / "out/my talk.rttm").read_text() == ""
    assert len((tmp_path / "out/my talk.tsv").read_text().splitlines()) == 1


def test_what_is_refused(run, tmp_path, ser_dir, capsys):
    for words, message in (
        (["my talk.flac"], "needs --enrollment, its speech, or --enroll_from"),
        (["none.wav", "--enrollment=e.wav"], "none.wav: no such audio file"),
        (["my talk.flac", "--enroll_from=8-9.5"], "ends at 9.00 s, before 9.5 s"),
        (["my talk.flac", "--enroll_from=1-2", "--enrollment=e.wav"], "give --enrollment or --enr"),
    ):
        status, out, err = run(*words)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1
    assert "a timeline is of what a target says" in run("my talk.flac", model_dir=ser_dir)[2]
    enrolled = run("my talk.flac", "--enrollment=e.wav", model_dir=ser_dir)[2]
    assert f"{ser_dir}: takes no enrollment; leave it out" in enrolled
    for text in ("2", "4-2", "a-b", "1-2-3", "-1-2"):
        with pytest.raises(SystemExit):
            run("my talk.flac", f"--enroll_from={text}")
        assert "expected START-END in s, as 12.5-15" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_recording(tmp_path, joint_dir):
    code = (
        "import resource, sys\n"
        "from espnet_tse_ser.bin import timeline\n"
        "for name in ('short', 'short', 'long'):\n"
        "    timeline.main([f'{name}.flac', *sys.argv[1:]])\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for name, seconds in (("short", 30), ("long", 180)):
        soundfile.write(tmp_path / f"{name}.flac", np.tile(samples, seconds), 8000)
    command = [sys.executable, "-c", code, f"--model_dir={joint_dir}", "--enroll_from=2-4"]
    command += ["--window_seconds=6", "--num_threads=1", "--output_dir=out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, short, long = (int(line) / 1024 for line in done.stdout.splitlines()[1::2])
    assert long - short < 9, (short, long)  # MB; mixture and speech would be 18 MB


@pytest.mark.parametrize(
    "least, said", [(0.3, True), (0.4, True), (0.5, False), (0.8, False), (0.9, True)]
)
def test_two_voices_that_a_threshold_does_not_part(least, said):
    values = np.r_[np.full(30, 0.4), np.full(30, 0.8)]
    args = SimpleNamespace(least_similarity=least, mixture="m.wav")
    found = timeline._groups(args, Presence(None, values, values))
    text = "voices fall into two groups, of similarities about 0.40 and 0.80: --least_similarity "
    assert found == [f"{text}0.60 takes the second alone (m.wav)"] * said
    assert timeline._groups(args, None) == []
    assert timeline._groups(args, Presence(None, values[:30], values[:30])) == []
