"""Mixing a target with its sources: placement, levels, clipping guard. Pure functions.

Signals are float arrays ``(num_samples,)``. The target fixes the length of the mixture: a source
is cropped or placed within it. An offset is one integer per source: at ``offset >= 0`` the source
starts at that sample of the target; at ``offset < 0`` its first ``-offset`` samples are cut. Noise
lasts as long as the target: what is too short begins anew as often as needed.
"""

from dataclasses import dataclass, replace

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE, TALKER
from espnet_tse_ser.audio.reading import peak
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.table import CLEAN, LEVELS
from espnet_tse_ser.values.kinds import Choice, Interval, Maybe, check_option, options_of

MODES = Choice("loudness", "snr")
LOUDNESS, SNR = Interval(-100, 20), Interval(-100, 100)  # LUFS, dB
PEAK_CEILING = 0.9  # as in LibriMix: the mixture and each source in it stay below this
PAUSE_DB = 10.0  # a piece whose peak is this far below the loudness of its utterance is a pause
DRAWS = 20  # so often a piece is drawn again for being a pause


@dataclass(frozen=True)
class Levels:
    """How the levels of the sources are drawn.

    ``mode`` "loudness": the integrated loudness of every source is uniform in ``loudness`` (LUFS;
    Cosentino et al., "LibriMix", 2020). "snr": the target keeps a loudness drawn from
    ``loudness`` and the energy ratio of the target to the sum of the interferers, over the
    extent of the target, is uniform in ``snr`` (dB; give the same number twice to fix it), or one
    of ``snr_set``, all of them as often; there "clean" stands for a mixture without sources.
    """

    mode: MODES = "loudness"
    loudness: LOUDNESS = (-33.0, -25.0)
    snr: SNR = (-5.0, 5.0)
    snr_set: Maybe(LEVELS) = None

    def __post_init__(self):
        for name, kind in options_of(Levels).items():
            where = {"mode": "levels", "snr_set": "snr_set"}.get(name, f"{name} range")
            object.__setattr__(self, name, check_option(getattr(self, name), kind, where))
        if self.snr_set is not None and self.mode != "snr":
            raise UserError(f"snr_set needs levels snr, got levels {self.mode}; give that as well")

    def draw(self, rng):
        """The level of one mixture: its name ("" where there is no set), and its `Levels`.

        >>> Levels("snr", snr_set=[5]).draw(np.random.default_rng(0))[0]
        '5'
        """
        if self.snr_set is None:
            return "", self
        return self._at(self.snr_set[rng.integers(len(self.snr_set))])

    def every(self):
        """All levels of the set, each as from `draw`.

        Raises:
            UserError: there is no set, or a level is in it twice.

        >>> [name for name, _ in Levels("snr", snr_set=["clean", 10, -2.5]).every()]
        ['clean', '10', '-2.5']
        """
        if self.snr_set is None:
            raise UserError("mixtures at every level need a set of them: give snr_set")
        names = [name for name, _ in map(self._at, self.snr_set)]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"snr_set: {name} is there twice; name each level once")
        return [*map(self._at, self.snr_set)]

    def _at(self, level):
        if level == CLEAN:
            return CLEAN, self
        return f"{level:g}", replace(self, snr=(level, level), snr_set=None)


def decibels(ratio):
    """Amplitude ratio to dB."""
    return 20.0 * np.log10(ratio)


def amplitude(db):
    """dB to amplitude ratio."""
    return 10.0 ** (np.asarray(db) / 20.0)


def happens(rng, share):
    """Draw whether an example is one of so large a share of all; of 0 nothing is drawn."""
    return share > 0 and bool(rng.random() < share)


def draw_offset(rng, source_samples, target_samples, kind=TALKER):
    """Draw where a source lies: a uniform crop of a longer one, a uniform place of a shorter one.

    Of shorter noise it is the sample that it begins with.

    >>> draw_offset(np.random.default_rng(0), 100, 100)
    0
    """
    room = target_samples - source_samples
    if room < 0:
        return -int(rng.integers(0, 1 - room))
    return -int(rng.integers(source_samples)) if kind == NOISE else int(rng.integers(0, room + 1))


def place(source, offset, target_samples, kind=TALKER):
    """Crop a source to the extent of the target, or fill that up: by silence, noise by itself.

    >>> place(np.array([1.0, 2.0]), 1, 4)
    array([0., 1., 2., 0.])
    >>> place(np.array([1.0, 2.0, 3.0]), -1, 2)
    array([2., 3.])
    >>> place(np.array([1.0, 2.0, 3.0]), -1, 5, NOISE)
    array([2., 3., 1., 2., 3.])
    """
    if kind == NOISE:
        return source[(np.arange(target_samples) - offset) % len(source)]
    placed = np.zeros(target_samples, source.dtype)
    piece = source[max(0, -offset) : max(0, target_samples - offset)]
    start = max(0, offset)
    placed[start : start + len(piece)] = piece
    return placed


def overlap(offsets, lengths, target_samples):
    """The share of the target during which at least one talker is there, 0 to 1.

    Args:
        offsets: of the talkers; lengths: of their whole utterances; all in samples.

    >>> overlap([-10, 50], [30, 80], 100)
    0.7
    """
    covered = np.zeros(target_samples, bool)
    for offset, length in zip(offsets, lengths, strict=True):
        covered[max(0, offset) : max(0, offset + length)] = True
    return float(covered.mean())


def is_pause(piece, lufs):
    """Whether the piece of an utterance of loudness ``lufs`` holds nothing but a pause."""
    return bool(peak(piece) < amplitude(lufs - PAUSE_DB))


def draw_placed(rng, source, target_samples, lufs, kind=TALKER):
    """Draw an offset and `place` the source; a crop that is a mere pause is drawn again.

    Args:
        source: ``(num_samples,)``; lufs: its loudness; kind: of the source.

    Returns:
        the offset and the placed source ``(target_samples,)``.
    """
    for _ in range(DRAWS):
        offset = draw_offset(rng, len(source), target_samples, kind)
        placed = place(source, offset, target_samples, kind)
        if not is_pause(placed, lufs):
            break
    return offset, placed


def snr(target, placed):
    """Energy ratio in dB of the target to the sum of the placed sources (all scaled)."""
    noise = np.sum(np.asarray(placed, np.float64), axis=0)
    energy, noise_energy = np.sum(np.square(target, dtype=np.float64)), np.sum(np.square(noise))
    return float(10.0 * np.log10(max(energy, 1e-20) / max(noise_energy, 1e-20)))


def draw_gains(rng, levels, target, placed, lufs):
    """Draw one gain in dB for each source and lower all of them together against clipping.

    Args:
        rng: numpy Generator.
        levels: `Levels`.
        target: ``(num_samples,)``; placed: list of sources of that length (unscaled), maybe empty.
        lufs: integrated loudness in LUFS of each whole signal, the target's first.

    Returns:
        gains in dB, the target's first, rounded to 1e-4 dB so that a table holds them exactly.

    Raises:
        UserError: in "snr" mode, a source is silent over the target's extent.
    """
    wanted = rng.uniform(*levels.loudness, size=len(lufs))
    gains = wanted - np.asarray(lufs, np.float64)
    if levels.mode == "snr" and placed:
        scaled = amplitude(gains)
        placed_scaled = [g * p for g, p in zip(scaled[1:], placed, strict=True)]
        if not all(p.any() for p in placed):
            raise UserError("a source is silent over the extent of its target")
        gains[1:] += snr(scaled[0] * target, placed_scaled) - rng.uniform(*levels.snr)
    return guard_gains(gains, [target, *placed])


def guard_gains(gains, sources):
    """Lower all gains (dB) together if the mixture or a source would exceed `PEAK_CEILING`.

    Returns:
        list of gains, rounded to 1e-4 dB so that a table holds them exactly.
    """
    highest = sum(amplitude(g) * float(peak(s)) for g, s in zip(gains, sources, strict=True))
    if highest > PEAK_CEILING:  # else no sum of the sources can reach it
        scaled = [amplitude(g) * s for g, s in zip(gains, sources, strict=True)]
        highest = max(peak(s) for s in [np.sum(scaled, axis=0), *scaled])
    lowered = decibels(highest / PEAK_CEILING) + 1e-3 if highest > PEAK_CEILING else 0.0
    return [round(float(g - lowered), 4) for g in gains]


def mix(target, placed, gains_db):
    """Scale and add.

    Returns:
        mixture ``(num_samples,)`` and the list of scaled sources (target first), float32.
    """
    sources = [
        np.float32(amplitude(g)) * np.asarray(s, np.float32)
        for g, s in zip(gains_db, [target, *placed], strict=True)
    ]
    mixture = sources[0].copy()
    for source in sources[1:]:
        mixture += source
    return mixture, sources
