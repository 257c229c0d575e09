"""Enhancement by an SSL encoder as a front-end."""

import torch

from espnet_tse_ser.frontends.front_end import FrontEnd


class SSLEnhancement(FrontEnd):
    """A trained model as a front-end.

    Args:
        model: `SSLEnhancementModel`; rate: in Hz; device: where to compute.
    """

    needs_enrollment = False

    def __init__(self, model, rate, device="cpu"):
        super().__init__(rate, device)
        self.model = model.to(device).eval()

    @torch.no_grad()
    def enhance(self, mixtures, lengths, enrollments=None):
        return self.model.enhance(mixtures, lengths)
