"""Self-supervised front-ends: torchaudio's wav2vec 2.0, HuBERT and WavLM."""

import torch
import torch.nn.functional as F
import torchaudio
from espnet2.asr.frontend.abs_frontend import AbsFrontend

from espnet_tse_ser.audio.levels import REFERENCE, standardize
from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.plain_files import only_plain_files
from espnet_tse_ser.recognise.length import fix_length, fixed_samples
from espnet_tse_ser.training.checkpoints import copy_state, load_state
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.values.kinds import (
    Choice,
    Either,
    Flag,
    Mapping,
    Maybe,
    Only,
    Several,
    Text,
    check_options,
)
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, LAYERS, UTTERANCE_SECONDS, Number

_OURS = "frontend.ssl."  # keys of a model that has such a front-end
_RATE = 16000  # of all these models, in Hz
_FACTORIES = {
    "wav2vec2": torchaudio.models.wav2vec2_model,
    "hubert": torchaudio.models.wav2vec2_model,  # the same network, trained otherwise
    "wavlm": torchaudio.models.wavlm_model,
}
_CONVOLUTIONS = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2  # torchaudio's default
_LAYER = Either(Choice("last", "weighted"), Number(0, 100, whole=True))
ARCHITECTURE = {  # what arch_conf may hold: torchaudio's arguments, and two of ours
    "type": Choice(*_FACTORIES),
    "normalize_waveform": Flag(),
    "extractor_mode": Choice("group_norm", "layer_norm"),
    "extractor_conv_layer_config": Maybe(Several(Several(CHANNELS, 3, 3), 1, 100)),
    "extractor_conv_bias": Flag(),
    "encoder_embed_dim": CHANNELS,
    "encoder_projection_dropout": DROPOUT,
    "encoder_pos_conv_kernel": CHANNELS,
    "encoder_pos_conv_groups": CHANNELS,
    "encoder_num_layers": LAYERS,
    "encoder_num_heads": CHANNELS,
    "encoder_num_buckets": CHANNELS,
    "encoder_max_distance": Number(1, 65536, whole=True),
    "encoder_attention_dropout": DROPOUT,
    "encoder_ff_interm_features": Number(1, 65536, whole=True),
    "encoder_ff_interm_dropout": DROPOUT,
    "encoder_dropout": DROPOUT,
    "encoder_layer_norm_first": Flag(),
    "encoder_layer_drop": DROPOUT,
    "aux_num_out": Only(None),
}


class SSLFrontend(AbsFrontend):
    """Frames of a pretrained transformer.

    torchaudio's own forward depends on padding (the group norm of the base models runs over padded
    frames) and cannot mask WavLM at all, so its modules are run here one by one; without padding
    the output is that of ``extract_features``.

    The waveform has the mean and the root mean square that the model was trained on: 0 and 1 for
    those that normalise waveforms, and a usual level for the others, which took them as they were.

    Args:
        arch: name of a torchaudio bundle (``HUBERT_BASE``, ``WAV2VEC2_BASE``, ``WAVLM_LARGE`` ...)
            or ``custom``.
        arch_conf: with ``custom``: ``type`` (``wav2vec2``, ``hubert`` or ``wavlm``),
            ``normalize_waveform`` (default false), and the arguments of torchaudio's
            ``wav2vec2_model`` or ``wavlm_model``.
        weights: ``bundle`` downloads the bundle's weights, a path names a local state dict,
            None leaves the initialisation random (when a checkpoint of the whole model follows).
        layer: ``last``, ``weighted`` (a learned softmax-weighted sum of all layers), or a number:
            0 is the input of the first transformer layer, 1 the output of the first layer, ...
        layer_norm: of a weighted sum: normalise the channels of each frame of each layer before.
        finetune: train the transformer too; else it stays in evaluation mode without gradients
            of its own (gradients still reach a waveform that requires them, for joint training).
        freeze_convolutions: of what is fine-tuned: the convolutional feature extractor is frozen,
            as is usual (ShiftSER, BSSE-SE).
        fixed_seconds: cut the end of every utterance, or append zeros, to come to this length; the
            zeros count as speech from then on: ShiftSER's 7.5. None takes utterances as they are.

    Raises:
        UserError: unknown bundle or type, arguments that do not fit, a layer that does not exist,
            weights that are missing or of another architecture.
        ValueError: ``layer_norm`` without a weighted sum.
    """

    def __init__(
        self,
        arch: Text(),
        arch_conf: Maybe(Mapping()) = None,
        weights: Maybe(Text()) = "bundle",
        layer: _LAYER = "last",
        finetune: Flag() = False,
        fixed_seconds: Maybe(UTTERANCE_SECONDS) = None,
        layer_norm: Flag() = False,
        freeze_convolutions: Flag() = True,
    ):
        super().__init__()
        if layer_norm and layer != "weighted":
            raise ValueError("layer_norm is of the layers of a sum; give layer: weighted")
        self.fs, self.fixed_samples = _RATE, fixed_samples(fixed_seconds, _RATE)
        bundle, factory, params, self.normalize_waveform = _resolve(arch, arch_conf or {})
        self.architecture = {
            "factory": factory.__name__,
            "normalize_waveform": self.normalize_waveform,
            **params,
        }
        try:
            self.ssl = factory(**params)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"SSL front-end '{arch}': {error}; correct arch_conf") from None
        if weights is not None:
            state = _download(bundle, arch) if weights == "bundle" else load_state(weights)
            _load(self.ssl, state, arch, weights)
        self._mask_group_norm()
        self.finetune, self.layer_norm = finetune, layer_norm
        self.trains_convolutions = finetune and not freeze_convolutions
        transformer = self.ssl.encoder.transformer
        num_layers = len(transformer.layers)
        self.layer = num_layers if layer == "last" else layer
        if layer == "weighted":
            self.layer_weights = torch.nn.Parameter(torch.zeros(num_layers + 1))
            self.layer_weights._no_weight_decay = True
        elif self.layer not in range(num_layers + 1):
            raise UserError(
                f"SSL front-end '{arch}': layer '{layer}' does not exist; "
                f"use last, weighted or 0 to {num_layers}"
            )
        else:
            # The layers above the one that is used would only cost memory.
            del transformer.layers[self.layer :]
        self._size = transformer.pos_conv_embed.embed_dim
        self.ssl.requires_grad_(finetune)
        self.ssl.feature_extractor.requires_grad_(self.trains_convolutions)
        if not transformer.layer_norm_first:  # then it has no part in the output of any layer
            transformer.layer_norm.requires_grad_(False)

    def output_size(self):
        """Features a frame."""
        return self._size

    def train(self, mode=True):
        """As in torch, but what is frozen stays in evaluation mode."""
        super().train(mode)
        self.ssl.train(mode and self.finetune)
        self.ssl.feature_extractor.train(mode and self.trains_convolutions)
        return self

    def forward(self, speech, lengths):
        """Compute the features.

        Args:
            speech: ``(B, T)``, 16 kHz; lengths: valid samples ``(B,)``.

        Returns:
            ``(B, F, output_size)`` with zeros in padded frames (one frame is 20 ms), and the valid
            frames ``(B,)``.

        Raises:
            UserError: an utterance is shorter than one frame.
        """
        layers, num_frames = self.layers(speech, lengths)
        x = self.sum(layers, self.layer_weights) if self.layer == "weighted" else layers[-1]
        return x * frame_mask(num_frames, x.shape[1])[..., None], num_frames

    def layers(self, speech, lengths, masked=None):
        """Compute all layers.

        Args:
            speech, lengths: as of `forward`. masked: map of the projected frames ``(B, F, D)`` and
                the valid ones ``(B,)``, for training towards what it hides.

        Returns:
            the input of the first transformer layer, and the output of each, ``(B, F, D)`` with
            anything in padded frames; the valid frames ``(B,)``.
        """
        rms = 1.0 if self.normalize_waveform else REFERENCE
        speech, _ = standardize(speech, lengths, rms)
        speech, lengths = fix_length(speech, lengths, self.fixed_samples)
        reached = torch.is_grad_enabled() and speech.requires_grad
        trained = torch.is_grad_enabled() and self.finetune
        with torch.set_grad_enabled(reached or (trained and self.trains_convolutions)):
            frames, num_frames = self._convolve(speech, lengths)
        with torch.set_grad_enabled(reached or trained):
            return self._transform(frames, num_frames, masked), num_frames

    def sum(self, layers, weights):
        """Sum `layers` by the softmax of ``weights``, one for each of them."""
        if self.layer_norm:
            layers = (F.layer_norm(x, x.shape[2:]) for x in layers)
        return sum(w * x for w, x in zip(weights.softmax(0), layers, strict=True))

    def _convolve(self, speech, lengths):
        if isinstance(self._first_norm, MaskedGroupNorm):
            first = self.ssl.feature_extractor.conv_layers[0]
            self._first_norm.lengths = _conv_lengths(lengths, first)
        frames, num_frames = self.ssl.feature_extractor(speech, lengths)
        if int(num_frames.min()) < 1:
            raise UserError(
                f"an utterance of {int(lengths.min())} samples is too short for one frame of the "
                "SSL front-end; drop it"
            )
        return frames, num_frames

    def _transform(self, frames, num_frames, masked):
        encoder = self.ssl.encoder
        transformer = encoder.transformer
        valid = frame_mask(num_frames, frames.shape[1])
        x = encoder.feature_projection(frames) * valid[..., None]
        if masked is not None:
            x = masked(x, num_frames)
        with float32(x):
            # torch 2.11 on CPUs with AMX convolves bfloat16 by 100 % wrongly where a kernel is even
            # and a group has 12 channels.
            x = x + transformer.pos_conv_embed(widened(x))
        if transformer.layer_norm_first:
            x = transformer.layer_norm(x)
        x = transformer.dropout(x)
        masks = {}
        if not bool(valid.all()):
            bias = torch.zeros_like(valid, dtype=x.dtype).masked_fill(~valid, float("-inf"))
            if _is_wavlm(transformer):
                masks = {"key_padding_mask": bias}
            else:
                masks = {"attention_mask": bias[:, None, None].expand(-1, 1, x.shape[1], -1)}
        layers, position_bias = [x], None
        for layer in transformer.layers:
            x, position_bias = layer(x, position_bias=position_bias, **masks)
            layers.append(x)
        return layers

    def _mask_group_norm(self):
        first = self.ssl.feature_extractor.conv_layers[0]
        if isinstance(first.layer_norm, torch.nn.GroupNorm):
            first.layer_norm = MaskedGroupNorm(first.layer_norm)

    @property
    def _first_norm(self):
        return self.ssl.feature_extractor.conv_layers[0].layer_norm


def count_frames(num_samples, arch, arch_conf=None, **_):
    """Frames that `SSLFrontend` with this configuration makes of ``num_samples``.

    >>> count_frames(16000, "HUBERT_BASE")
    49
    """
    for _, kernel, stride in _convolutions(arch, arch_conf):
        num_samples = max(0, (num_samples - kernel) // stride + 1)
    return num_samples


def smallest_input(num_frames, arch, arch_conf=None, **_):
    """The samples of which `count_frames` are ``num_frames``, at least.

    >>> smallest_input(49, "HUBERT_BASE")
    15760
    """
    for _, kernel, stride in reversed(_convolutions(arch, arch_conf)):
        num_frames = (num_frames - 1) * stride + kernel
    return num_frames


def _convolutions(arch, arch_conf):
    """Channels, kernel and stride of each layer of the feature extractor."""
    params = _resolve(arch, arch_conf or {})[2]
    return params.get("extractor_conv_layer_config") or _CONVOLUTIONS


class MaskedGroupNorm(torch.nn.Module):
    """Group norm with one group a channel whose statistics leave padded frames out.

    Set ``lengths`` (valid frames) before each forward. Parameter names are those of the torch
    module that it replaces.
    """

    def __init__(self, norm):
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError("only a group norm with one group a channel is supported")
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.lengths = None

    def forward(self, x):
        """Normalise ``(B, C, F)``; padded frames become zero."""
        mask = frame_mask(self.lengths, x.shape[2])[:, None]
        count = self.lengths.clamp(min=1)[:, None, None]
        mean = (x * mask).sum(dim=2, keepdim=True) / count
        x = (x - mean) * mask
        variance = x.square().sum(dim=2, keepdim=True) / count
        scale = self.weight[:, None] * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None], x, scale) * mask


def _resolve(arch, arch_conf):
    """Bundle (or None), factory, its arguments, and whether waveforms are normalised."""
    if arch == "custom":
        params = check_options(arch_conf, ARCHITECTURE, "arch_conf")
        if "type" not in params:
            raise UserError(f"arch_conf: has no 'type'; give {ARCHITECTURE['type']}")
        kind = params.pop("type")
        normalize = params.pop("normalize_waveform", False)
        return None, _FACTORIES[kind], {"aux_num_out": None} | params, normalize
    bundle = getattr(torchaudio.pipelines, arch, None)
    if not isinstance(bundle, torchaudio.pipelines.Wav2Vec2Bundle):
        kind = torchaudio.pipelines.Wav2Vec2Bundle
        known = [n for n in dir(torchaudio.pipelines) if type(_bundle(n)) is kind]
        raise UserError(
            f"SSL front-end: unknown arch '{arch}'; use custom or one of {', '.join(known)}"
        )
    if arch_conf:
        raise UserError(f"SSL front-end: arch_conf belongs to arch custom, not to '{arch}'")
    # torchaudio has no public way to a bundle's architecture without downloading its weights.
    params = dict(bundle._params) | {"aux_num_out": None}
    return bundle, _FACTORIES[bundle._model_type.lower()], params, bundle._normalize_waveform


def _bundle(name):
    return getattr(torchaudio.pipelines, name)


def _download(bundle, arch):
    if bundle is None:
        raise UserError("SSL front-end: arch custom has no bundle; give a path as weights")
    try:
        with only_plain_files():
            return bundle.get_model().state_dict()
    except OSError as error:
        raise UserError(
            f"SSL front-end: the weights of {arch} cannot be downloaded ({error}); save "
            f"torchaudio.pipelines.{arch}.get_model().state_dict() on a machine with network and "
            "give its path as weights"
        ) from None


def _load(module, state, arch, source):
    # Of one of our models, what is beside the front-end is left out.
    ours = {k: v for k, v in state.items() if k.startswith(_OURS)}
    # get_model() wraps the models that normalise waveforms; fine-tuned ones have a CTC layer.
    state = {k.removeprefix(_OURS).removeprefix("model."): v for k, v in (ours or state).items()}
    state = {k: v for k, v in state.items() if not k.startswith("aux.")}
    own = module.state_dict()
    missing, excess = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if missing or excess or shapes:
        raise UserError(
            f"SSL front-end: {source} holds weights of another architecture than '{arch}': "
            f"{len(missing)} missing, {len(excess)} unknown, {len(shapes)} of another shape; first "
            f"'{(shapes or missing or excess)[0]}'; correct arch or weights"
        )
    copy_state(module, state, f"SSL front-end {arch}: {source}")


def _conv_lengths(lengths, layer):
    frames = torch.div(lengths - layer.kernel_size, layer.stride, rounding_mode="floor") + 1
    return frames.clamp(min=0)


def _is_wavlm(transformer):
    return len(transformer.layers) > 0 and hasattr(transformer.layers[0].attention, "gru_rel_pos")
