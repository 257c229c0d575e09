"""Extraction and enhancement models of ESPnet as front-ends, as ESPnet's own inference uses them.

Its programs for inference (espnet2.bin.enh_inference) import all of ESPnet's tasks and trust every
weights file, and so are not used.
"""

import argparse
import importlib

import torch
import torch.nn.functional as F

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.frontends.front_end import FrontEnd
from espnet_tse_ser.plain_files import only_plain_files
from espnet_tse_ser.training.checkpoints import load_weights

_TASKS = {
    "tse": ("espnet2.tasks.enh_tse", "TargetSpeakerExtractionTask"),
    "enh": ("espnet2.tasks.enh", "EnhancementTask"),
}
_OF_TRAINING = {"criterions": None, "init": None}


class ESPnetFrontEnd(FrontEnd):
    """A model that ESPnet's task builds.

    Args:
        config: mapping, read from ``path``. weights: a state dict file. kind: "tse" or "enh".
        rate: in Hz. device: where to compute.

    Raises:
        UserError: ESPnet cannot build it, it separates talkers, or the weights do not fit.
    """

    def __init__(self, config, path, weights, kind, rate, device="cpu"):
        super().__init__(rate, device)
        self.needs_enrollment = kind == "tse"
        module, task = _TASKS[kind]
        task = getattr(importlib.import_module(module), task)
        try:
            with only_plain_files():
                self.model = task.build_model(argparse.Namespace(**config | _OF_TRAINING))
        except Exception as error:  # whatever its classes raise for what they do not know
            import espnet

            raise UserError(
                f"{path}: ESPnet {espnet.__version__} cannot build this model "
                f"({type(error).__name__}: {first_line(error)}); is it of another version?"
            ) from error
        if kind == "enh" and self.model.num_spk > 1:
            raise UserError(
                f"{path}: separates {self.model.num_spk} talkers and does not know which is the "
                "target; give an enhancement or an extraction model"
            )
        load_weights(self.model, weights)
        self.model.to(device).eval()

    @torch.no_grad()
    def enhance(self, mixtures, lengths, enrollments=None):
        # One by one: ESPnet's global norms and means see the padding of a batch.
        estimates = torch.zeros_like(mixtures)
        devices = [] if mixtures.device.type == "cpu" else [mixtures.device]
        for index, length in enumerate(lengths.tolist()):
            mixture = mixtures[index : index + 1, :length]
            with torch.random.fork_rng(devices):  # a diffusion model draws numbers
                torch.manual_seed(0)
                if self.needs_enrollment:
                    estimate = self._extract(mixture, enrollments[index])
                else:
                    estimate = self._enhance(mixture)
            estimates[index, :length] = F.pad(estimate[0], (0, length))[:length]
        return estimates

    def _extract(self, mixture, enrollment):
        enrollment = torch.as_tensor(enrollment, dtype=torch.float32, device=self.device)[None]
        parts = (mixture, _length(mixture), [enrollment], [_length(enrollment)])
        return self.model.forward_enhance(*parts)[0][0]

    def _enhance(self, mixture):
        from espnet2.enh.diffusion_enh import ESPnetDiffusionModel
        from espnet2.enh.espnet_model import BSRNNSeparator, TFGridNetV3, USESSeparator
        from torchaudio.functional import resample

        model, length = self.model, mixture.shape[1]
        of_any_rate = isinstance(model.separator, (BSRNNSeparator, TFGridNetV3, USESSeparator))
        rate = self.rate if of_any_rate else None
        higher = 48000 if model.always_forward_in_48k and not of_any_rate else self.rate
        mixture = resample(mixture, self.rate, higher)
        level = 1.0
        if model.normalize_variance or model.normalize_variance_per_ch:
            level = mixture.std(dim=1, keepdim=True)
        lengths = _length(mixture)
        if isinstance(model, ESPnetDiffusionModel):
            feature = model.enhance(model.encoder(mixture / level, lengths, fs=rate)[0])
            estimate = model.decoder(feature, lengths, fs=rate)[0]
        else:
            estimate = model.forward_enhance(mixture / level, lengths, {}, fs=rate)[0][0]
        return resample(estimate * level, higher, self.rate)[:, :length]


def _length(signals):
    return torch.tensor([signals.shape[1]], device=signals.device)
