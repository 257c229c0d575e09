"""What networks get of signals, in NumPy: no offset, and a root mean square of 0.05 or another."""

import numpy as np
import torch

RMS = 0.05


def standardized(samples, rms=RMS):
    """Standardise ``(num_samples,)``, float32."""
    samples = np.asarray(samples, np.float64)
    samples = samples - np.mean(samples)
    return (rms / np.sqrt(np.mean(samples**2)) * samples).astype(np.float32)


def standardized_batch(speech, lengths, rms=RMS):
    """Standardise the valid samples of a tensor ``(B, T)``; what lies beyond them stays."""
    speech = speech.clone()
    for row, length in zip(speech, torch.as_tensor(lengths).tolist(), strict=True):
        row[:length] = torch.from_numpy(standardized(row[:length].numpy(), rms))
    return speech
