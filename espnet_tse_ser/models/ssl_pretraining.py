"""Pretraining of an encoder by itself: noisy speech with hidden frames, towards the clean one."""

import torch
import torch.nn.functional as F
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.frontend import LogMelFrontend
from espnet_tse_ser.recognise.mel_filters import set_mel_filters
from espnet_tse_ser.recognise.quantizer import RandomProjectionQuantizer, stack_standardized
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend
from espnet_tse_ser.recognise.ssl_specaug import draw_spans
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.values.kinds import Choice
from espnet_tse_ser.values.numbers import CHANNELS, SHARE, Number

UNITS, FEATURES = "units", "features"

_UNIT, _SHIFT = 2, 160  # frames of 10 ms in one of the encoder, samples in one of them
MASK_WIDTH = 10
_SEED = 0  # of what is hidden in validation


class SSLPretrainingModel(AbsESPnetModel):
    """An encoder that predicts what clean speech has in frames which it does not see.

    Spans of its projected frames are replaced by a learned vector, as in wav2vec 2.0 and HuBERT,
    and its input is noisy, as in WavLM's masked speech denoising (Chen et al., arXiv 2110.13900).
    What it predicts are

    * ``units``: which of a few `RandomProjectionQuantizer` units the clean speech has where frames
      are hidden; by cross entropy; or
    * ``features``: the log-mel features of the clean speech, bands of mean 0 and deviation 1, by
      their mean absolute error where frames are hidden and where they are not, half each (masked
      reconstruction of Mockingjay, Liu et al., ICASSP 2020, with denoising): more to learn from in
      each step, for a training of an hour and not of weeks.

    The encoder is ``frontend.ssl``; its weights are what `SSLFrontend` takes from an experiment.

    Args:
        arch_conf: of `SSLFrontend`, of an encoder with a frame every 20 ms.
        targets: see above. codes: units.
        filterbank: how the first convolution starts: as torchaudio starts it, or by
            `set_mel_filters`, which spares a short training half of its steps.
        mask_share, mask_width: of the frames that are hidden, in spans of this width, which may
            overlap.

    Raises:
        ValueError: the encoder has other frames, or a first convolution that is no filterbank.
    """

    def __init__(
        self,
        arch_conf,
        targets: Choice(UNITS, FEATURES) = UNITS,
        codes: CHANNELS = 1024,
        filterbank: Choice("random", "mel") = "random",
        mask_share: SHARE = 0.65,
        mask_width: Number(1, 1000, whole=True) = MASK_WIDTH,
    ):
        super().__init__()
        self.frontend = SSLFrontend(
            "custom", arch_conf, None, finetune=True, freeze_convolutions=False
        )
        strides = [layer.stride for layer in self.frontend.ssl.feature_extractor.conv_layers]
        if torch.tensor(strides).prod() != _UNIT * _SHIFT:
            raise ValueError(
                f"the strides {strides} of extractor_conv_layer_config have to make one frame of "
                f"{_UNIT * _SHIFT} samples"
            )
        if filterbank == "mel":
            first = self.frontend.ssl.feature_extractor.conv_layers[0]
            set_mel_filters(first.conv.weight, self.frontend.fs)
        self.spans = mask_share, mask_width, 1
        self.mask_vector = torch.nn.Parameter(torch.rand(self.frontend.output_size()))
        self.mask_vector._no_weight_decay = True
        self.features = LogMelFrontend(hop_length=_SHIFT)
        bands, self.quantizer = self.features.output_size(), None
        if targets == UNITS:
            self.quantizer = RandomProjectionQuantizer(bands, _UNIT, codes)
        size = codes if targets == UNITS else _UNIT * bands
        self.classifier = torch.nn.Linear(self.frontend.output_size(), size)

    @staticmethod
    def measures_of(targets=UNITS, **model_conf):
        """What a training with these options measures, and which way is better."""
        further = {"acc": "max"} if targets == UNITS else {"hidden": "min", "seen": "min"}
        return {"loss": "min"} | further

    def forward(self, speech_mix, speech_mix_lengths, speech_ref1, **kwargs):
        """Compute the loss of a batch.

        Args:
            speech_mix: noisy ``(B, T)``, with lengths ``(B,)``; speech_ref1: clean ``(B, T)``.

        Returns:
            loss (scalar), stats, weight (the batch size).
        """
        with torch.no_grad(), float32(speech_ref1):
            clean = self.features(speech_ref1, speech_mix_lengths)
            if self.quantizer is None:
                clean = stack_standardized(*clean, _UNIT)
            else:
                clean = self.quantizer(*clean)
        hidden = []

        def hide(x, num_frames):
            hidden.append(self._spans(num_frames, x.shape[1]))
            return torch.where(hidden[0][..., None], self.mask_vector.to(x.dtype), x)

        layers, num_frames = self.frontend.layers(speech_mix, speech_mix_lengths, hide)
        mask = frame_mask(num_frames, layers[-1].shape[1])
        asked, clean = hidden[0] & mask, clean[:, : mask.shape[1]]
        if self.quantizer is None:
            loss, stats = self._of_features(layers[-1], clean, asked, mask & ~asked)
        else:
            loss, stats = self._of_units(layers[-1][asked], clean[asked])
        stats["loss"] = loss.detach()
        return force_gatherable((loss, stats, len(speech_mix)), loss.device)

    def _of_units(self, frames, units):
        logits = self.classifier(frames)
        with float32(logits):
            logits = widened(logits)
            loss = F.cross_entropy(logits, units)
        return loss, {"acc": (logits.argmax(1) == units).float().mean()}

    def _of_features(self, frames, clean, hidden, seen):
        estimate = self.classifier(frames)
        with float32(estimate):
            error = (widened(estimate) - clean).abs().mean(2)
            parts = {"hidden": error[hidden].mean(), "seen": error[seen].mean()}
            return sum(parts.values()) / 2, {k: v.detach() for k, v in parts.items()}

    def _spans(self, lengths, num_frames):
        """What is hidden; in validation the same for the same lengths."""
        generator = None
        if not self.training:
            generator = torch.Generator(lengths.device).manual_seed(_SEED)
        return draw_spans(lengths, num_frames, *self.spans, generator)

    def collect_feats(self, **kwargs):
        """ESPnet's; there is nothing to collect."""
        return {}
