"""Inference of many recordings: as one by one, bad ones, resuming, pipes, what is never lost."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from espnet_tse_ser import errors
from espnet_tse_ser.bin import infer, pack
from espnet_tse_ser.inference.model import TSESER

RATE = 16000


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Six recordings of several rates and formats in a folder, and two enrollments beside it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number, (kind, rate) in enumerate(
        [
            ("wav", 8000),
            ("flac", RATE),
            ("ogg", 44100),
            ("mp3", 48000),
            ("wav", RATE),
            ("wav", RATE),
        ]
    ):
        samples = 0.1 * rng.standard_normal((rate + 1000 * number, 1 + number % 2))
        soundfile.write(tmp_path / f"in/{number}.{kind}", samples, rate)
    for name in "ef":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(20000), RATE)
    return tmp_path


@pytest.fixture
def run(files, joint_dir, capfd, caplog):
    """Status, results and what is said of a command: what is logged, and stderr."""

    def run(*words, model=joint_dir):
        caplog.clear()
        status = errors.run(infer.main, [*map(str, words), f"--model_dir={model}"])
        out, err = capfd.readouterr()
        said = "".join(f"{text}\n" for text in caplog.messages) + err
        return status, [json.loads(line) for line in out.splitlines()], said

    return run


def test_many_are_as_one_by_one(run, files):
    status, results, _ = run("in", "--enrollment", "e.wav", "--output_dir", "many")
    assert status == 0 and [r["mixture"] for r in results] == sorted(
        str(p.relative_to(files)) for p in (files / "in").iterdir()
    )
    for result in results:
        status, (alone,), _ = run(result["mixture"], "e.wav", "--output_wav", "one.wav")
        assert alone == result and result["enrollment"] == ["e.wav"]
        name = os.path.basename(result["mixture"]).partition(".")[0]
        assert (files / "one.wav").read_bytes() == (files / f"many/{name}.wav").read_bytes()


def test_a_bad_one_does_not_stop_the_others(run, files):
    (files / "in/1.flac").write_bytes(b"fLaC")
    (files / "in/bad.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    soundfile.write(files / "in/silent.wav", np.zeros(RATE), RATE)
    status, results, err = run("in", "--enrollment=e.wav")
    assert status == 2 and len(results) == 5
    assert "in/1.flac: cannot be read as audio" in err
    assert "in/bad.m4a: cannot be read" in err and "ffmpeg -i in/bad.m4a in/bad.wav" in err
    assert "in/silent.wav: is silent" in err and "drop its id" not in err
    assert err.splitlines()[-1].startswith("error: 3 of 8 recordings could not be used, first in/1")


def test_a_missing_enrollment_is_said_once(run, files):
    status, results, err = run("in", "none.wav", "--enrollment=e.wav")
    assert status == 2 and len(results) == 6 and "none.wav: no such audio file" in err
    status, results, err = run("in")
    assert (status, results) == (2, []) and "needs --enrollment" in err and err.count("\n") == 1


@pytest.mark.parametrize("suffix", ["jsonl", "tsv"])
def test_what_is_there_is_not_computed_again(run, files, monkeypatch, suffix):
    output = files / f"r.{suffix}"
    command = ("in", "--enrollment=e.wav", f"--output={output}", "--output_dir=speech")
    assert run(*command)[:2] == (0, [])
    whole = output.read_bytes()
    computed = []
    recognize = infer._recognize

    def counted(args, reader, load, item, path):
        computed.append(item.mixture)
        return recognize(args, reader, load, item, path)

    monkeypatch.setattr(infer, "_recognize", counted)
    assert run(*command)[0] == 0 and computed == [] and output.read_bytes() == whole
    output.write_bytes(whole[: len(whole) * 2 // 3])
    left = len(whole.splitlines()) - output.read_bytes().count(b"\n")
    assert run(*command)[0] == 0 and len(computed) == left > 1 and output.read_bytes() == whole
    (files / "speech/0.wav").unlink()
    assert "0.wav: is gone, but" in run(*command)[2]


def test_another_model_does_not_add_to_results(run, ser_dir):
    command = ("in", "--enrollment=e.wav", "--output=r.jsonl")
    assert run(*command)[0] == 0
    status, _, err = run(*command, model=ser_dir)
    assert status == 2 and "r.jsonl: line 1: has model " in err


def test_another_front_end_does_not_add_to_results(run, ser_dir, tse_dir, enhancer_dir):
    command = ("in/4.wav", "e.wav", "--output=r.jsonl")
    assert run(*command, f"--front_end={tse_dir}", model=ser_dir)[0] == 0
    status, _, said = run(*command, f"--front_end={enhancer_dir}", model=ser_dir)
    assert status == 2 and "r.jsonl: line 1: has model " in said


def test_killed_and_resumed(run, files, joint_dir):
    """A process that is killed leaves whole results, and a second one adds the rest."""
    for number in range(6, 60):
        os.link(files / "in/4.wav", files / f"in/{number}.wav")
    command = ["infer", "in", "--enrollment", "e.wav", "--output=r.jsonl"]
    output = files / "r.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_tse_ser", *command, f"--model_dir={joint_dir}"],
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (output.exists() and output.stat().st_size > 2000):
        time.sleep(0.01)
    process.kill()
    process.wait()
    begun = output.read_bytes()
    assert 0 < begun.count(b"\n") < 60
    assert run(*command[1:])[0] == 0
    data = output.read_bytes()
    assert data.startswith(begun[: begun.rfind(b"\n") + 1])
    ids = [json.loads(line)["id"] for line in data.splitlines()]
    assert len(ids) == len(set(ids)) == 60


def test_a_table_with_ids_and_several_enrollments(run, files, joint_dir):
    (files / "t.tsv").write_text(
        "mixture\tenrollment\tid\nin/4.wav\te.wav;f.wav\tx/1\nin/4.wav\tf.wav\tx/2\n"
    )
    status, (both, one), _ = run("t.tsv", "--output_dir=speech")
    assert status == 0 and (both["id"], one["id"]) == ("x/1", "x/2")

    def read(name):
        return soundfile.read(files / name, dtype="float32")[0]

    model = TSESER.from_pretrained(joint_dir)
    expected = model(read("in/4.wav"), [read("e.wav"), read("f.wav")])
    assert both["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert sorted(p.name for p in (files / "speech").iterdir()) == ["x_1.wav", "x_2.wav"]


def test_pipes(run, files, monkeypatch):
    expected = run("in/4.wav", "e.wav")[1][0]["probabilities"]
    names = []
    for name in ("in/4.wav", "e.wav"):
        number, end = os.pipe()
        threading.Thread(target=_fill, args=(end, files / name), daemon=True).start()
        names.append(f"/dev/fd/{number}")
    (found,) = run(*names)[1]
    assert found["mixture"] == names[0] and found["probabilities"] == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in/4.wav\te.wav\n")))
    assert run("-")[1][0]["probabilities"] == expected


def _fill(pipe, path):
    with open(pipe, "wb") as stream:
        stream.write(path.read_bytes())


def test_no_input_is_written_over(run, files):
    before = {p: p.read_bytes() for p in files.rglob("*.*") if p.is_file()}
    for more, message in (
        (["--output_dir=in"], "in/0.wav: is an input as well"),
        (["--output=e.wav"], "--output e.wav: is an input as well"),
        (["--output_wav=x.wav"], "--output_wav is for one recording; give --output_dir"),
    ):
        status, results, err = run("in", "--enrollment=e.wav", *more)
        assert (status, results) == (2, []) and message in err
    os.link(files / "in/0.wav", files / "in/0.flac")
    assert "would be of in/0.flac and of in/0.wav" in run("in", "e.wav", "--output_dir=o")[2]
    os.unlink(files / "in/0.flac")
    assert {p: p.read_bytes() for p in files.rglob("*.*") if p.is_file()} == before


def test_two_files_for_a_recogniser(run, ser_dir):
    status, _, err = run("in/4.wav", "e.wav", model=ser_dir)
    assert status == 2 and "takes no enrollment, which the second of two files is" in err
    status, results, _ = run("--mixture=in/4.wav", "--mixture=e.wav", model=ser_dir)
    assert status == 0 and [r["mixture"] for r in results] == ["in/4.wav", "e.wav"]
    status, _, err = run("in", "--speech=e.wav", model=ser_dir)
    assert status == 2 and "--speech is that of one recording" in err
    assert "give a recording, a folder, a table" in run(model=ser_dir)[2]


def test_an_archive(run, files, joint_dir):
    pack.main([f"--model_dir={joint_dir}", "--output=m.zip"])
    assert run("in/4.wav", "e.wav", model="m.zip")[1] == run("in/4.wav", "e.wav")[1]


def test_warnings(run, files):
    rng = np.random.default_rng(0)
    soundfile.write(files / "s.wav", 0.1 * rng.standard_normal(4000), RATE)
    clipped = np.clip(0.3 * rng.standard_normal(30000), -0.3, 0.3)
    soundfile.write(files / "c.wav", clipped, RATE)
    assert run("in/4.wav", "e.wav")[1][0]["warnings"] == []
    for more in ([], ["--segment_seconds=0.5"]):
        status, (result,), err = run("c.wav", "s.wav", *more)
        kinds = ["mixture clipped", "enrollment short"]
        assert [w.partition(":")[0] for w in result["warnings"]] == kinds and status == 0
        assert all(text in err for text in result["warnings"])


def test_a_bar_on_a_terminal(run, monkeypatch):
    """Where results go to a file; between results it would only disturb."""
    for output, is_shown in (("r.jsonl", True), (None, False)):
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(sys, "stdout", Terminal())
        more = [] if output is None else [f"--output={output}"]
        assert run("in", "--enrollment=e.wav", *more)[0] == 0
        assert (
            "infer: 100%" in sys.stderr.getvalue() and "6/6" in sys.stderr.getvalue()
        ) == is_shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_memory_does_not_grow_with_their_number(files, joint_dir):
    code = (
        "import resource, sys\n"
        "from espnet_tse_ser.bin import infer\n"
        "for folder in ('few', 'few', 'many'):\n"
        "    infer.main([folder, *sys.argv[1:], f'--output={folder}.jsonl'])\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    rng = np.random.default_rng(0)
    for folder, count in (("few", 10), ("many", 100)):
        (files / folder).mkdir()
        for number in range(count):
            soundfile.write(
                files / f"{folder}/{number}.wav", 0.1 * rng.standard_normal(20000), RATE
            )
    command = [sys.executable, "-c", code, "--enrollment=e.wav", f"--model_dir={joint_dir}"]
    done = subprocess.run([*command, "--num_threads=1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, few, many = (int(line) / 1024 for line in done.stdout.splitlines())
    assert many - few < 3, (few, many)  # MB; the samples would be 7 MB, and their speech as much


def test_what_a_newcomer_tried(run, files):
    """The enrollment in the folder; names behind it; the recording as its own enrollment."""
    shutil.copy(files / "e.wav", files / "in/e.wav")
    _, results, _ = run("in", "--enrollment=in/e.wav")
    assert results and "in/e.wav" not in {r["mixture"] for r in results}
    assert "put the recordings before it" in run("--enrollment", "e.wav", "in/4.wav")[2]
    _, (result,), _ = run("in/4.wav", "--enrollment=in/4.wav")
    (text,) = [w for w in result["warnings"] if "itself" in w]
    assert text == "enrollment is the mixture itself: give the target alone (in/4.wav)"
    (files / "t.tsv").write_text("in/4.wav\te.wav\tone\nin/4.wav\tnone.wav\ttwo\n")
    assert "two: none.wav: no such" in run("t.tsv")[2]
    assert "(only two audio files alone are" in run("in/4.wav", "e.wav", "in/0.wav")[2]
