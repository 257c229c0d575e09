"""The SNR as a loss with a threshold, and its counterpart where there is no target.

Both are those of Wisdom et al., "What's all the fuss about free universal sound separation data?",
ICASSP 2021; Delcroix et al., "Listen only to me!", Interspeech 2022, extract absent speakers with
the like. Neither is scale invariant: a silent output is one of a level.
"""

import torch
from espnet2.enh.loss.criterions.time_domain import SNRLoss, TimeDomainLoss

from espnet_tse_ser.values.kinds import Flag, Maybe, Text
from espnet_tse_ser.values.numbers import Number

MAX_DB = 30.0
_LEAST = 1e-10  # energy


class ThresholdedSNRLoss(TimeDomainLoss):
    """Negative SNR in dB that gains nothing any more near ``max_db``: an easy mixture, such as the
    target alone, does not outweigh the others.

    Args:
        max_db: the highest SNR.
        name, only_for_test: ESPnet's.
    """

    def __init__(
        self,
        max_db: Number(0, 200, above=True) = MAX_DB,
        name: Maybe(Text()) = None,
        only_for_test: Flag() = False,
    ):
        super().__init__(name or "thresholded_snr_loss", only_for_test=only_for_test)
        self.max_db = max_db

    def forward(self, ref, inf):
        """The loss ``(B,)`` of estimates ``inf`` of ``ref``, ``(B, T)`` each."""
        return _level(inf - ref, ref, self.max_db)


OF_LEVEL = (SNRLoss, ThresholdedSNRLoss)  # losses to which the level of an output matters


def absent_loss(estimate, mixture):
    """The level of an output that should be silent, against the mixture.

    Args:
        estimate, mixture: ``(B, T)``.

    Returns:
        ``(B,)`` in dB, not below -`MAX_DB`.

    >>> absent_loss(torch.tensor([[0.1, -0.1], [0.0, 0.0]]), torch.tensor([[1.0, 1.0]] * 2))
    tensor([-19.5861, -30.0000])
    """
    return _level(estimate, mixture, MAX_DB)


def _level(signal, reference, max_db):
    """Level in dB of ``signal`` against ``reference``; the floor is soft."""
    energy, whole = (x.square().sum(1) for x in (signal, reference))
    return 10 * torch.log10(energy / whole.clamp(min=_LEAST) + 10 ** (-max_db / 10))
