"""Normalisation of features by statistics of the training set."""

from pathlib import Path

import numpy as np
import torch
from espnet2.layers.abs_normalize import AbsNormalize

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.values.numbers import Number


class GlobalMVN(AbsNormalize):
    """Subtract the mean and divide by the standard deviation of each feature.

    Both are buffers, so that a checkpoint carries them: unlike ESPnet's class of this name, the
    model can be built again without the statistics file.

    Args:
        feature_size: number of features; eps: lower bound of the variance.
    """

    def __init__(self, feature_size, eps: Number(0, 1, above=True) = 1e-10):
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def read_stats(self, path):
        """Take over the statistics of ESPnet's ``feats_stats.npz`` (count, sum, sum_square).

        Raises:
            UserError: the file is missing or broken, has another number of features, or numbers
                that are not finite.
        """
        stats = _read_stats(Path(path))
        with np.errstate(all="ignore"):
            mean, square = (stats[name] / stats["count"] for name in ("sum", "sum_square"))
            variance = square - mean**2
        finite = np.isfinite(mean).all() and np.isfinite(variance).all()
        # Rounding makes the variance of a constant feature a little negative.
        if not (finite and 0 < stats["count"] < np.inf and (variance >= -1e-6 * square).all()):
            raise UserError(
                f"{path}: a mean or variance is not finite, or of {stats['count']} frames, or a "
                "variance is negative; delete it and run stage 9"
            )
        if mean.shape != tuple(self.mean.shape):
            raise UserError(
                f"{path}: statistics of {mean.size} features, but the front-end has "
                f"{self.mean.numel()}; run stage 9 with the same configuration"
            )
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(np.sqrt(np.maximum(variance, self.eps))))

    def forward(self, feats, lengths):
        """Normalise ``(B, F, feature_size)``; padded frames become zero."""
        mask = frame_mask(lengths, feats.shape[1])[..., None]
        return (feats - self.mean) / self.std * mask, lengths


def _read_stats(path):
    if not path.is_file():
        raise UserError(f"{path}: no such statistics; run stage 9")
    try:
        with np.load(path, allow_pickle=False) as archive:
            stats = {k: archive[k] for k in ("count", "sum", "sum_square")}
        if any(array.dtype.kind not in "fiu" for array in stats.values()):
            raise ValueError("it holds other than real numbers")
        stats = {k: array.astype(np.float64) for k, array in stats.items()}
        if stats["count"].ndim or stats["sum"].ndim != 1:
            raise ValueError("its shapes are others")
        if stats["sum"].shape != stats["sum_square"].shape:
            raise ValueError("its shapes differ")
        return stats
    except Exception as error:  # of a damaged archive: zipfile's, zlib's, numpy's, of memory
        raise UserError(
            f"{path}: is not a feats_stats.npz ({first_line(error)}); delete it and run stage 9"
        ) from None
