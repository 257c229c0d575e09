"""No encoder: frames of a front-end that are pooled as they are."""

from espnet2.asr.encoder.abs_encoder import AbsEncoder


class Identity(AbsEncoder):
    """Gives what it gets.

    Args:
        input_size: channels.
    """

    def __init__(self, input_size):
        super().__init__()
        self.input_size = input_size

    def output_size(self):
        """Channels."""
        return self.input_size

    def forward(self, feats, lengths):
        """``(B, F, input_size)`` with valid frames ``(B,)``, both as they are, and None."""
        return feats, lengths, None
