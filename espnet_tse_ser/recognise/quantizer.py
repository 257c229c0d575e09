"""Units of speech without a training: what an encoder can be pretrained to tell."""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask

_LEAST = 1e-5  # deviation of a band; one that is constant becomes 0


class RandomProjectionQuantizer(torch.nn.Module):
    """The nearest code of a random codebook, of randomly projected frames.

    Of BEST-RQ (Chiu, Qin, Zhang, Yu, Wu: "Self-supervised learning with random-projection quantizer
    for speech recognition", ICML 2022, arXiv 2202.01855). Neither projection nor codebook is
    trained: they only say which frames are alike. Each band has mean 0 and deviation 1 over an
    utterance, without which few codes would be used.

    Args:
        input_size: bands of a frame. stack: frames that become one unit. codes: of the codebook.
        size: of a code.
    """

    def __init__(self, input_size, stack=2, codes=1024, size=16):
        super().__init__()
        self.stack = stack
        projection = torch.nn.init.xavier_normal_(torch.empty(stack * input_size, size))
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(torch.randn(codes, size), dim=1))

    def forward(self, feats, num_frames):
        """The units of features ``(B, F, D)`` with valid frames ``(B,)``.

        Returns:
            indices ``(B, F // stack)``, anything where one of the frames is padding.
        """
        stacked = stack_standardized(feats, num_frames, self.stack)
        return (F.normalize(stacked @ self.projection, dim=2) @ self.codebook.T).argmax(2)


def stack_standardized(feats, num_frames, stack):
    """Features ``(B, F, D)`` as ``(B, F // stack, stack D)``, of bands of mean 0 and deviation 1.

    Both are those of the valid frames ``(B,)`` of an utterance; what is beyond them is 0.
    """
    mask = frame_mask(num_frames, feats.shape[1])[..., None]
    count = num_frames[:, None, None].to(feats)
    feats = (feats - (feats * mask).sum(1, keepdim=True) / count) * mask
    deviation = (feats.square().sum(1, keepdim=True) / count).sqrt()
    feats = feats / deviation.clamp(min=_LEAST)
    units = feats.shape[1] // stack
    return feats[:, : units * stack].reshape(len(feats), units, -1)
