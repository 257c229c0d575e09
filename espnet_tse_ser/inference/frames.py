"""Energies of a recording and of what is extracted of it, by frames, however long it is."""

import numpy as np

from espnet_tse_ser.frontends.extraction import level_to_mixture
from espnet_tse_ser.metrics.signal import ACTIVE

FRAME_SECONDS = 0.02
SUPPRESSED = 20.0  # dB: of a frame in which the target speaks, extraction takes away less


class Frames:
    """Energies and peaks of frames of the mixture and of what is extracted of it.

    Args:
        rate: in Hz. sets_level: of the front-end.
    """

    def __init__(self, rate, sets_level=False):
        self.rate, self.sets_level = rate, sets_level
        self.size = round(FRAME_SECONDS * rate)
        self._rows, self._rest = [], np.zeros((0, 2), np.float32)
        self._product = self._energy = self._peak = 0.0

    def add(self, mixture, speech):
        """Take in ``(n,)`` float32 of the mixture and of what is extracted."""
        with np.errstate(over="ignore", invalid="ignore"):
            self._product += float(np.dot(speech, mixture))
            self._energy += float(np.dot(speech, speech))
            pair = np.concatenate([self._rest, np.stack([mixture, speech], axis=1)])
            self._peak = max(self._peak, float(np.abs(speech).max(initial=0)))
            whole = len(pair) // self.size * self.size
            frames, self._rest = pair[:whole].reshape(-1, self.size, 2), pair[whole:].copy()
            peaks = np.abs(frames).max(axis=1)
            self._rows.append(np.concatenate([np.square(frames).mean(axis=1), peaks], axis=1))

    def finish(self):
        """Find the level of what is extracted; returns the factor that brings it there.

        Then ``energies`` and ``peaks`` are ``(num_frames, 2)``: of the mixture, and of what is
        extracted at this level.

        Raises:
            UserError: what is extracted is not finite.
        """
        level = level_to_mixture(self._product, self._energy, self._peak, self.sets_level)
        rows = np.concatenate([np.zeros((0, 4), np.float32), *self._rows])
        self.energies = rows[:, :2] * [1, level**2]
        self.peaks = rows[:, 2:] * [1, abs(level)]
        return level

    def over_suppressed(self):
        """`over_suppressed` of all that was added."""
        self.finish()
        return over_suppressed(self.energies)


def suppression(mixture, speech, rate, sets_level=False):
    """`over_suppressed` of ``(num_samples,)`` float32; other arguments as of `Frames`."""
    frames = Frames(rate, sets_level)
    frames.add(mixture, speech)
    return frames.over_suppressed()


def over_suppressed(energies):
    """The share of active frames of a mixture of which extraction leaves hardly anything.

    Active are those within `ACTIVE` dB of the loudest; hardly anything is `SUPPRESSED` dB below the
    mixture. It is what `metrics.signal.tsos` is without a reference: it cannot tell a frame in
    which the target is lost from one in which it pauses. Near 1 next to nothing was extracted.

    Args:
        energies: ``(num_frames, 2)``, of the mixture and of what is extracted.

    Returns:
        0 to 1; None where no frame is active.

    >>> over_suppressed(np.array([[1.0, 0.9], [0.5, 0.001], [0.2, 0.001], [1e-5, 0.0]]))
    0.6666666666666666
    """
    mixture, speech = np.asarray(energies, np.float64).T
    active = mixture > mixture.max(initial=0) * 10 ** (-ACTIVE / 10)
    if not active.any():
        return None
    return float(np.mean(speech[active] < mixture[active] * 10 ** (-SUPPRESSED / 10)))
