"""The pretrained speaker encoder against the package that its weights are of."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_tse_ser.audio.levels import REFERENCE
from espnet_tse_ser.models.speaker_encoder import WEIGHTS, SpeakerEncoder, compress, expand

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
    model.load_pretrained()
    return model


@pytest.fixture(scope="module")
def exact():
    """With the weights of the package."""
    path = Path(importlib.util.find_spec("resemblyzer").origin).with_name("pretrained.pt")
    theirs = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    model = SpeakerEncoder()
    model.load_state_dict({name: theirs[name] for name in model.state_dict()})
    return model


def speech(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    carrier = np.sign(np.sin(2 * np.pi * (110 + 40 * seed) * np.arange(num_samples) / 16000))
    x = np.convolve(carrier * rng.uniform(0.5, 1, num_samples), np.hanning(9 + 4 * seed), "same")
    x -= x.mean()  # which the package leaves in
    return torch.from_numpy(REFERENCE * x / np.sqrt(np.mean(x**2))).float()


def test_it_is_the_network_of_the_package(exact, tmp_path):
    given, found = tmp_path / "speech.npy", tmp_path / "found.npz"
    signal = speech(25440)  # 160 frames: one window
    np.save(given, signal.numpy() * (10 ** (-30 / 20) / REFERENCE))
    subprocess.run([sys.executable, "-c", THEIRS, given, found], check=True)
    theirs, length = np.load(found), torch.tensor([25440])
    mels, (count,) = exact.energies(signal[None], length)
    assert count == 160 == len(theirs["mel"])
    ours = mels[0].numpy()
    np.testing.assert_allclose(ours, theirs["mel"], rtol=1e-3, atol=1e-5 * ours.max())
    embedding = exact.embed(signal[None], length)[0].numpy()
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


def test_what_ships_is_of_the_package(encoder, exact):
    found, made = torch.load(WEIGHTS, weights_only=True), compress(exact.state_dict())
    assert found.keys() == made.keys() and WEIGHTS.stat().st_size < 1.6e6
    for name, values in made.items():
        parts = [(values,), (found[name],)] if torch.is_tensor(values) else [values, found[name]]
        assert all(torch.equal(*pair) for pair in zip(*parts, strict=True))
    for seed in range(4):
        signal, length = speech(30000, seed)[None], torch.tensor([30000])
        assert exact.embed(signal, length)[0] @ encoder.embed(signal, length)[0] > 0.96


def test_eight_bits():
    torch.manual_seed(0)
    state = {
        "matrix": torch.randn(6, 64) * torch.logspace(-1, 1, 6)[:, None],
        "bias": torch.ones(3),
    }
    state["matrix"][2, :32] = 0
    found = expand(compress(state))
    assert torch.equal(found["bias"], state["bias"]) and found["matrix"].dtype == torch.float32
    error = (found["matrix"] - state["matrix"]).reshape(6, 2, 32).abs().amax(2)
    assert (error <= state["matrix"].reshape(6, 2, 32).abs().amax(2) / 127 * 0.6).all()
