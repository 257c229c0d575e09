"""Single-file inference: what it prints and writes, and that it fails in one line."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import yaml

from espnet_tse_ser import errors
from espnet_tse_ser.bin import infer
from espnet_tse_ser.inference import TSESER


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
    assert set(result) == {"label", "probabilities", "sample_rate", "seconds"}
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
        }[kind]
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("option", ["mixture", "enrollment"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no file", "no such audio file"),
        ("unreadable", "cannot be read as audio"),
        ("no bytes", "cannot be read as audio"),
        ("empty", "holds no samples"),
        ("NaN", "sample 7 is NaN or infinite"),
        ("silent", "is silent"),
        ("too short", "is too short: 0.006 s"),
    ],
)
def test_bad_audio(run, files, option, kind, message):
    bad = _bad_audio(files / "bad.wav", kind)
    _fails(run(**{option: bad}), f"{bad}: {message}", files)


def test_bad_options(run, files, tse_dir, ser_dir, joint_dir):
    _fails(run(enrollment=None), "needs --enrollment", files)
    _fails(run(model_dir=files), "config.yaml: no such file; is", files)
    _fails(run(model_dir=files / "m.wav"), "m.wav/config.yaml: no such file", files)
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
    _fails(run(model_dir=exp), f"{weights}: cannot be loaded as weights", files)
    weights.write_bytes(whole)
    ser = joint_config["ser"] | {"frontend_conf": {"n_mels": 20}}
    (exp / "config.yaml").write_text(yaml.safe_dump(joint_config | {"ser": ser}))
    _fails(run(model_dir=exp), f"{weights}: weights of another architecture", files)
    (exp / "config.yaml").write_text("tse: [\n")
    _fails(run(model_dir=exp), "config.yaml: not valid YAML", files)


def _fails(result, message, files):
    status, out, err = result
    assert status == 2 and out == ""
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], err
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
