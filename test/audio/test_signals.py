"""Signals and features by id."""

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.ark import write_array
from espnet_tse_ser.audio.kaldi_dir import write_table
from espnet_tse_ser.audio.signals import Features, Signals, read_lengths, read_signal
from espnet_tse_ser.errors import UserError

FS = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal((4000, 2))


@pytest.mark.parametrize("text", ["0", "-5", "2.5", "nan", "many", "1e400", "0x10", "5 6"])
def test_what_is_no_length(tmp_path, text):
    path = tmp_path / "utt2num_samples"
    write_table(path, {"a": 4000, "b": 5})
    assert read_lengths(path, ["a"]) == {"a": 4000}
    with pytest.raises(UserError, match="first 'c'"):
        read_lengths(path, ["a", "c"])
    path.write_text(f"a 4000\nb {text}\n")
    with pytest.raises(UserError, match="utt2num_samples: line 2: 'b': expected a number of samp"):
        read_lengths(path, ["a"])


def test_signals(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE[:, 0], FS)
    signals = Signals({"a": tmp_path / "a.wav"}, FS, {"a": 4000, "b": 3})
    assert list(signals) == ["a"] and len(signals) == 1
    np.testing.assert_allclose(signals["a"], NOISE[:, 0], atol=1 / 32768)


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (NOISE[:, 0], 8000, "rate is 8000 Hz, 16000 Hz is needed"),
        (NOISE, FS, "has 2 channels but 1 is needed"),
        (NOISE[:3999, 0], FS, "has 3999 samples, but utt2num_samples says 4000"),
        (NOISE[:1000, 0], FS, "1000 samples .* are too short"),
        (np.zeros(4000), FS, "is silent"),
        (np.full(4000, 0.3), FS, "is silent"),
        (np.where(np.arange(4000) == 7, np.nan, NOISE[:, 0]), FS, "sample 7 is NaN"),
        (1e9 * NOISE[:, 0], FS, "sample 0 is .*, which no recording has"),
        (None, FS, "no such audio file"),
    ],
)
def test_bad_signals(tmp_path, samples, rate, message):
    path = tmp_path / "a.wav"
    if samples is not None:
        soundfile.write(path, samples, rate, subtype="FLOAT")
    with pytest.raises(UserError, match=f"^'a': {path}: {message}"):
        read_signal("a", path, FS, 4000, 1600)


def test_features(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.standard_normal((5, 3)), "b": np.full((2, 3), np.nan)}
    with open(tmp_path / "a.ark", "wb") as stream:
        places = {
            utt: f"{tmp_path}/a.ark:{write_array(stream, utt, array.astype(np.float16))}"
            for utt, array in arrays.items()
        }
    features = Features(places)
    assert features["a"].dtype == np.float32 and list(features) == ["a", "b"]
    np.testing.assert_allclose(features["a"], arrays["a"], atol=2e-3)
    with pytest.raises(UserError, match="^'b': .*a.ark:.* not all of it is finite"):
        features["b"]
