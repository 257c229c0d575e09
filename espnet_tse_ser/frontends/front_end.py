"""What every front-end offers."""

from abc import ABC, abstractmethod


class FrontEnd(ABC):
    """Makes the target of a mixture audible: extraction with an enrollment, enhancement without.

    Attributes:
        rate: sampling rate in Hz. device: where it computes. needs_enrollment: whether it takes a
        reference utterance of the target. sets_level: whether the level of its output is the
        target's in the mixture, and not arbitrary.
    """

    needs_enrollment: bool
    sets_level = False

    def __init__(self, rate, device="cpu"):
        self.rate, self.device = rate, device

    def note(self, enrollments=None):
        """Keep of enrollments what `enhance` would, for a batch that need not be computed again.

        Nothing, unless a front-end keeps what it computes of them.
        """
        return None

    @abstractmethod
    def enhance(self, mixtures, lengths, enrollments=None):
        """Estimate the targets of a batch.

        Args:
            mixtures: ``(B, T)`` in [-1, 1] on ``device``; lengths: valid samples ``(B,)``.
            enrollments: list of ``(num_samples,)`` float arrays, where it needs them.

        Returns:
            ``(B, T)`` at any level, of which only the valid samples count. An utterance gives the
            same alone and in a batch.
        """
