"""Single-file inference: what it prints and writes, and that it fails in one line."""

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import yaml
from evil_files import Payload

from espnet_tse_ser import errors
from espnet_tse_ser.bin import infer
from espnet_tse_ser.inference.model import TSESER


@pytest.fixture
def files(tmp_path):
    """A stereo mixture at 44.1 kHz and a mono enrollment at 8 kHz."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "m.wav", 0.1 * rng.standard_normal((22050, 2)), 44100)
    soundfile.write(tmp_path / "e.wav", 0.1 * rng.standard_normal(4000), 8000)
    return tmp_path


@pytest.fixture
def run(files, joint_dir, capsys):
    """Run with changed options (None: left out); status, stdout, stderr."""

    def run(**changes):
        options = {
            "model_dir": joint_dir,
            "mixture": files / "m.wav",
            "enrollment": files / "e.wav",
            "output_wav": files / "out" / "out.wav",
        } | changes
        status = errors.run(infer.main, [f"--{k}={v}" for k, v in options.items() if v is not None])
        return status, *capsys.readouterr()

    return run


def test_any_rate_and_channel_count(run, files, joint_dir):
    status, out, _ = run()
    assert status == 0
    result = json.loads(out)
    assert set(result) == {
        *("id", "mixture", "enrollment", "label", "probabilities", "sample_rate", "seconds"),
        *("calibrated", "target_present", "over_suppressed"),
        *("warnings", "model", "window_seconds", "segment_seconds"),
    }
    assert result["sample_rate"] == 16000 and result["seconds"] == 0.5
    assert list(result["probabilities"]) == ["ang", "hap", "neu", "sad"]
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    info = soundfile.info(files / "out" / "out.wav")
    assert (info.samplerate, info.channels, info.frames) == (16000, 1, 8000)
    assert info.subtype == "PCM_16"
    # The same as in Python; each file is resampled from its own rate, once.
    model = TSESER.from_pretrained(joint_dir)
    mixture, _ = soundfile.read(files / "m.wav")
    enrollment, _ = soundfile.read(files / "e.wav")
    expected = model(model.prepare(mixture, 44100, "m"), model.prepare(enrollment, 8000, "e"))
    assert result["label"] == expected.label
    assert result["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    written, _ = soundfile.read(files / "out" / "out.wav")
    np.testing.assert_allclose(written, expected.speech, atol=1.1 / 32768)


def test_a_recogniser_alone(run, files, ser_dir):
    status, out, _ = run(model_dir=ser_dir, enrollment=None, output_wav=None)
    assert status == 0 and json.loads(out)["label"] in ("ang", "hap", "neu", "sad")


def _bad_audio(path, kind):
    if kind == "unreadable":
        path.write_bytes(b"RIFF no audio at all")
    elif kind == "no file":
        pass
    elif kind == "no bytes":
        path.touch()
    else:
        samples = {
            "empty": np.zeros(0),
            "NaN": np.where(np.arange(9000) == 7, np.nan, 0.1),
            "silent": np.zeros(9000),
            "too short": np.full(100, 0.1),
            "huge": np.where(np.arange(9000) == 7, 1e17, 0.1),
            "constant": np.full(9000, 0.1),
            "antiphase": np.sin(np.arange(9000))[:, None] * [0.1, -0.1],
        }[kind]
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("option", ["mixture", "enrollment"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no file", "no such audio file"),
        ("unreadable", "cannot be read as audio"),
        ("no bytes", "is empty; fetch it again"),
        ("empty", "holds no samples"),
        ("NaN", "sample 7 is NaN or infinite"),
        ("silent", "is silent"),
        ("too short", "is too short: 0.006 s"),
        ("huge", "sample 7 is 1e+17, which no recording has"),
        ("constant", "is silent"),
        ("antiphase", "its 2 channels cancel each other"),
    ],
)
def test_bad_audio(run, files, option, kind, message):
    bad = _bad_audio(files / "bad.wav", kind)
    _fails(run(**{option: bad}), f"{bad}: {message}", files)


def _hostile(directory, kind):
    """A name to give as audio that would make ``ran`` if it was read carelessly."""
    ran = directory / "ran"
    soundfile.write(directory / "a.wav", 0.1 * np.random.default_rng(0).normal(size=9000), 16000)
    content = b"a " + {"pickle": b"PKL" + pickle.dumps(Payload(ran))}.get(kind, b"\0BCM ")
    (directory / "a.ark").write_bytes(content + (directory / "a.wav").read_bytes())
    return {
        "pickle": f"{directory}/a.ark:2",
        "matrix": f"{directory}/a.ark:2",
        "pipe": f"mkdir {ran}; cat {directory}/a.wav |",
        "pipe with blanks": f" mkdir {ran}; cat {directory}/a.wav | ",
        "pipe of an archive": f"mkdir {ran}; cat {directory}/a.ark:2 |",
        "leading pipe": f"| mkdir {ran}",
    }[kind]


@pytest.mark.parametrize("option", ["mixture", "enrollment"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickle", "holds a pickle, which can run code, not audio"),
        ("matrix", "holds a compressed matrix, not audio"),
        ("pipe", "pipes are not supported: write a file"),
        ("pipe with blanks", "pipes are not supported: write a file"),
        ("pipe of an archive", "pipes are not supported: write a file"),
        ("leading pipe", "pipes are not supported: write a file"),
    ],
)
def test_names_run_no_code(run, files, option, kind, message):
    _fails(run(**{option: _hostile(files, kind)}), message, files)
    assert not (files / "ran").exists()


def test_an_archive(run, files):
    place = f"{files}/a.ark:2"
    (files / "a.ark").write_bytes(b"a " + (files / "m.wav").read_bytes() + b"b ")
    expected, found = (json.loads(run(mixture=m)[1]) for m in (files / "m.wav", place))
    assert _bare(found) == _bare(expected)
    soundfile.write(files / "l.wav", np.tile(soundfile.read(files / "m.wav")[0], (4, 1)), 44100)
    (files / "l.ark").write_bytes(b"a " + (files / "l.wav").read_bytes())
    options = {"window_seconds": 1.5, "segment_seconds": 1}
    long, archived = (
        json.loads(run(mixture=files / m, **options)[1]) for m in ("l.wav", "l.ark:2")
    )
    assert _bare(long) == _bare(archived) and long["seconds"] == 2 and len(long["segments"]) == 2
    shutil.rmtree(files / "out")
    _fails(run(mixture=f"{files}/a.ark:99999999"), "the archive ends at byte", files)
    _fails(run(mixture=f"{files}/a.ark:0"), "holds no known header", files)


def _bare(result):
    """A result without what names its file."""
    return {k: v for k, v in result.items() if k not in ("id", "mixture", "warnings")}


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_codecs_of_telephony(run, files, subtype):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(files / "t.wav", samples, 8000, subtype=subtype)
    for more in ({}, {"window_seconds": 1.5, "segment_seconds": 1}):
        status, out, err = run(mixture=files / "t.wav", **more)
        assert status == 0 and "error" not in err and 2 <= json.loads(out)["seconds"] < 2.2


@pytest.mark.parametrize("kind", ["flac", "wav", "mp3", "ogg", "aiff", "au", "w64", "caf", "rf64"])
def test_cut_files(run, files, kind):
    path = files / f"c.{kind}"
    samples = 0.1 * np.random.default_rng(0).standard_normal(48000)
    soundfile.write(path, samples, 16000, format=kind.upper())
    whole = path.read_bytes()
    status, out, _ = run(mixture=path)
    assert status == 0 and json.loads(out)["seconds"] == 3
    for left in (len(whole) * 4 // 5, len(whole) // 2 + 1):
        path.write_bytes(whole[:left])
        for seconds in (60, 2):
            status, out, err = run(mixture=path, window_seconds=seconds, output_wav=None)
            assert status == 2 and out == "" and f"{path}: the file is cut short" in err, left


def test_the_output_is_no_input(run, files, monkeypatch):
    monkeypatch.chdir(files)
    before = (files / "m.wav").read_bytes()
    os.symlink("m.wav", files / "symbolic.wav")
    os.link("m.wav", files / "hard.wav")
    for name in ("m.wav", files / "m.wav", "./m.wav", f"../{files.name}/m.wav", "symbolic.wav"):
        _fails(run(output_wav=name), "is an input as well", files, "--output_wav")
    _fails(run(output_wav="hard.wav"), "is an input as well", files, "--output_wav")
    _fails(run(output_wav="e.wav"), "is an input as well", files, "--output_wav")
    assert (files / "m.wav").read_bytes() == before


def test_an_output_that_is_not_finite(run, files, tmp_path, joint_dir, joint_config):
    """JSON has no NaN."""
    weights = torch.load(joint_dir / "valid.ua.best.pth", weights_only=True)
    name = next(n for n in weights if n.startswith("ser_model.") and n.endswith("weight"))
    (tmp_path / "exp").mkdir()
    soundfile.write(files / "l.wav", np.tile(soundfile.read(files / "m.wav")[0], (4, 1)), 44100)
    (tmp_path / "exp" / "config.yaml").write_text(yaml.safe_dump(joint_config))
    for value in (np.nan, np.inf, 1e38):
        state = weights | {name: torch.full_like(weights[name], value)}
        torch.save(state, tmp_path / "exp" / "valid.ua.best.pth")
        for more in ({}, {"window_seconds": 1.5, "segment_seconds": 1}):
            long = {"mixture": files / "l.wav"} if more else {}
            status, out, err = run(model_dir=tmp_path / "exp", **long, **more)
            assert (status, out) == (2, "") and err.splitlines()[-1].startswith("error: ")
            assert "NaN or inf" in err or "not finite" in err


def test_bad_options(run, files, tse_dir, ser_dir, joint_dir):
    _fails(run(enrollment=None), "needs --enrollment", files)
    _fails(run(model_dir=files), "config.yaml: no such file; is", files)
    _fails(run(model_dir=files / "m.wav"), "m.wav: is no directory of a model, and no", files)
    _fails(run(model_dir=tse_dir), "is neither a joint nor a SER model", files)
    _fails(run(model_dir=ser_dir), "does not extract; use a joint model", files)
    _fails(run(output_wav=files / "out" / "out.mp3"), "out.mp3: the name must end in .wav", files)
    _fails(run(output_wav=files / "m.wav" / "x" / "o.wav"), "m.wav is not a directory", files)
    (files / "d.wav").mkdir()
    _fails(run(output_wav=files / "d.wav", model_dir=files), "d.wav: is a directory; give", files)
    _fails(run(mixture=files), f"{files}: is a directory; give the name of an audio file", files)


def test_bad_weights(run, files, tmp_path, joint_dir, joint_config):
    exp = tmp_path / "exp"
    exp.mkdir()
    (exp / "config.yaml").write_text(yaml.safe_dump(joint_config))
    _fails(run(model_dir=exp), "valid.ua.best.pth: no such file", files)
    weights = exp / "valid.ua.best.pth"
    whole = (joint_dir / "valid.ua.best.pth").read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    _fails(run(model_dir=exp), f"{weights}: is damaged, or not as torch.save writes files", files)
    weights.write_bytes(whole)
    ser = joint_config["ser"] | {"frontend_conf": {"n_mels": 20}}
    (exp / "config.yaml").write_text(yaml.safe_dump(joint_config | {"ser": ser}))
    _fails(run(model_dir=exp), f"{weights}: weights of another architecture", files)
    (exp / "config.yaml").write_text("tse: [\n")
    _fails(run(model_dir=exp), "config.yaml: line 2: not valid YAML", files)


def _fails(result, message, files, begin=""):
    status, out, err = result
    assert status == 2 and out == ""
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {begin}") and message in lines[0], err
    assert not (files / "out").exists() or not list((files / "out").iterdir())


def test_help_is_quick():
    code = (
        "import sys\n"
        "from espnet_tse_ser.bin import infer\n"
        "try:\n"
        "    infer.main(['--help'])\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'espnet2', 'numpy', 'soundfile'} & set(sys.modules)\n"
        "    sys.exit(str(heavy) if heavy else 0)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert "--enrollment" in result.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_as_a_command(files, joint_dir):
    command = [sys.executable, "-m", "espnet_tse_ser.bin.infer", f"--model_dir={joint_dir}"]
    command += [f"--mixture={files / 'm.wav'}", f"--enrollment={files / 'none.wav'}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    message = f"error: {files / 'none.wav'}: no such audio file; check the name, or fetch it again"
    assert result.stderr.splitlines() == [message]
