"""The pretrained speaker encoder against the package that its weights are of."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from espnet_tse_ser.audio.levels import REFERENCE
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.speaker_encoder import SpeakerEncoder

# Its own module imports a compiled package that this does not need.
THEIRS = """
import sys, types
import numpy as np
sys.modules["webrtcvad"] = types.ModuleType("webrtcvad")
from resemblyzer import VoiceEncoder
from resemblyzer.audio import wav_to_mel_spectrogram
import torch
speech = np.load(sys.argv[1])
mel = wav_to_mel_spectrogram(speech)
with torch.no_grad():
    embedding = VoiceEncoder("cpu", verbose=False)(torch.from_numpy(mel[None, :160]))
np.savez(sys.argv[2], mel=mel, embedding=embedding.numpy()[0])
"""


@pytest.fixture(scope="module")
def encoder():
    model = SpeakerEncoder()
    model.load_installed()
    return model


def speech(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    carrier = np.sign(np.sin(2 * np.pi * (110 + 40 * seed) * np.arange(num_samples) / 16000))
    x = np.convolve(carrier * rng.uniform(0.5, 1, num_samples), np.hanning(9 + 4 * seed), "same")
    x -= x.mean()  # which the package leaves in
    return torch.from_numpy(REFERENCE * x / np.sqrt(np.mean(x**2))).float()


def test_it_is_the_network_of_the_package(encoder, tmp_path):
    given, found = tmp_path / "speech.npy", tmp_path / "found.npz"
    signal = speech(25440)  # 160 frames: one window
    np.save(given, signal.numpy() * (10 ** (-30 / 20) / REFERENCE))
    subprocess.run([sys.executable, "-c", THEIRS, given, found], check=True)
    theirs, length = np.load(found), torch.tensor([25440])
    mels, (count,) = encoder.energies(signal[None], length)
    assert count == 160 == len(theirs["mel"])
    ours = mels[0].numpy()
    np.testing.assert_allclose(ours, theirs["mel"], rtol=1e-3, atol=1e-5 * ours.max())
    embedding = encoder.embed(signal[None], length)[0].numpy()
    np.testing.assert_allclose(embedding, theirs["embedding"], atol=1e-4)


@pytest.mark.parametrize("num_samples", [400, 20000, 25440, 25600, 40000, 70001])
def test_a_batch_changes_nothing(encoder, num_samples):
    one, other = speech(num_samples), speech(50000, 1)
    alone = encoder.embed(one[None], torch.tensor([num_samples]))
    batch = torch.zeros(2, 71000)
    batch[0, :num_samples], batch[1, :50000] = one, other
    together = encoder.embed(batch, torch.tensor([num_samples, 50000]))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    assert together.norm(dim=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert not together.requires_grad


def test_it_tells_voices_apart(encoder):
    low, again, high = speech(48000), speech(40000), speech(48000, 3)
    length = torch.tensor([48000])
    same = (
        encoder.embed(low[None], length)[0] @ encoder.embed(again[None], torch.tensor([40000]))[0]
    )
    assert same > encoder.embed(low[None], length)[0] @ encoder.embed(high[None], length)[0] + 0.1


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps resemblyzer"):
        SpeakerEncoder().load_installed()


@pytest.mark.parametrize("content", [b"", b"no weights", {"model_state": {}}, {"step": 1}, [1]])
def test_other_weights_are_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "pretrained.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="pretrained.pt.*force-reinstall"):
        SpeakerEncoder().load_installed()
