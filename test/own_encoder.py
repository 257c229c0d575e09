"""A plain encoder as a user would write one, in a file of its own."""

TEXT = '''"""A linear layer over each frame."""

import torch

from espnet_tse_ser.values.numbers import CHANNELS
from espnet_tse_ser.audio.masks import frame_mask


class Plain(torch.nn.Module):
    def __init__(self, input_size, channels: CHANNELS = 8, bias: bool = True):
        super().__init__()
        self.linear = torch.nn.Linear(input_size, channels, bias=bias)

    def output_size(self):
        return self.linear.out_features

    def forward(self, feats, lengths):
        mask = frame_mask(lengths, feats.shape[1])[..., None]
        return torch.relu(self.linear(feats)) * mask, lengths, None
'''


def write_encoder(directory, name="plain.py"):
    """Write it where a configuration finds it as ``plain:Plain``."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT)
    return path
