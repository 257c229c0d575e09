"""TD-SpeakerBeam, a time-domain extractor steered by an enrollment utterance; and without one.

Delcroix et al., "Improving speaker discrimination of target speech extraction with time-domain
SpeakerBeam", ICASSP 2020; the mask network is the TCN of Conv-TasNet (Luo & Mesgarani, 2019).
`TCNExtractor` is that network alone, which makes an enhancement model.

`TDSpeakerBeamExtractor` has the parameters of ESPnet's class of the same name, so checkpoints are
exchangeable, and takes the same options, less those without effect and norms that would depend on
the padding. It differs in two ways. Padded frames count nowhere:
an utterance gives the same result alone and in a padded batch (ESPnet's global layer norm and
enrollment mean see the padding). And it is several times faster on a CPU, see `tcn`.
"""

from collections import OrderedDict

import torch
from espnet2.enh.extractor.abs_extractor import AbsExtractor
from espnet2.enh.extractor.td_speakerbeam_extractor import (
    TDSpeakerBeamExtractor as _ESPnetTDSpeakerBeamExtractor,
)
from espnet2.enh.layers.tcn import TemporalConvNet

from espnet_tse_ser.frontends.td_speakerbeam.tcn import NONLINEAR, run_tcn
from espnet_tse_ser.values.blocks import COUNT, check_adapted
from espnet_tse_ser.values.kinds import Choice, Flag, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, Number

_NORM = Choice("gLN", "cLN")
_BEFORE_MASK = Choice("prelu", "linear", *NONLINEAR)
_MASK = Choice("linear", *NONLINEAR)
_ADAPTATION = Choice("mul", "muladd", "concat")


class _TCNMask:
    """What extractors share whose mask network is a ``tcn``.

    Attributes:
        transform: what encoder and decoder are. reach: frames that an output depends on, each way.
    """

    transform = "conv"

    @property
    def reach(self):
        # A layer looks back by its padding, and ahead as far or (causal) not at all.
        return sum(m.padding[0] for m in self.tcn.modules() if isinstance(m, torch.nn.Conv1d))

    def estimate_mask(self, feature, ilens, embedding=None, statistics=None):
        """Estimate the target's mask.

        Args:
            feature: encoded mixture ``(B, L, N)``; ilens: valid frames ``(B,)``.
            embedding: what ``embed`` returned for the same batch; None without an enrollment.
            statistics: `NormStatistics` if these are pieces of one recording.

        Returns:
            ``(B, L, N)``; zero in padded frames.
        """
        mask = run_tcn(self.tcn, feature.transpose(1, 2), ilens, embedding, statistics)
        return mask.transpose(1, 2)

    def apply_mask(self, feature, mask):
        """Masked features ``(B, L, N)``."""
        return feature * mask


class TDSpeakerBeamExtractor(_TCNMask, _ESPnetTDSpeakerBeamExtractor):
    """Drop-in for ESPnet's extractor.

    Attributes:
        needs_enrollment: True. has_global_norms: whether a norm sees all frames.

    Args:
        input_dim: encoder channels.
        layer: blocks in a repeat; stack: repeats.
        bottleneck_dim, hidden_dim: channels between and within blocks.
        skip_dim: channels of the skip connections, ``bottleneck_dim``; None leaves them out.
        kernel: of the depthwise convolutions. causal: pad at the beginning only.
        norm_type: gLN or cLN; statistics of ESPnet's others would depend on the padding.
        pre_nonlinear, nonlinear: before the last layer of the mask network, and of the mask.
        i_adapt_layer: the block, counted from 0 through all repeats, whose output is adapted to
            the target. adapt_layer_type: mul, muladd or concat.
        adapt_enroll_dim: size of an embedding: ``bottleneck_dim``, twice that for muladd.
        use_spk_emb: enrollments are embeddings, of ``spk_emb_dim``, not encoded speech.

    Raises:
        ValueError: sizes that do not fit each other, or an ``i_adapt_layer`` that does not exist:
            the enrollment would have no effect.
    """

    needs_enrollment = True

    def __init__(
        self,
        input_dim,
        layer: COUNT = 8,
        stack: COUNT = 3,
        bottleneck_dim: CHANNELS = 128,
        hidden_dim: CHANNELS = 512,
        skip_dim: Maybe(CHANNELS) = 128,
        kernel: Number(1, 63, odd=True) = 3,
        causal: Flag() = False,
        norm_type: _NORM = "gLN",
        pre_nonlinear: _BEFORE_MASK = "prelu",
        nonlinear: _MASK = "relu",
        i_adapt_layer: Number(0, 255, whole=True) = 7,
        adapt_layer_type: _ADAPTATION = "mul",
        adapt_enroll_dim: Number(1, 2 * CHANNELS.high, whole=True) = 128,
        use_spk_emb: Flag() = False,
        spk_emb_dim: CHANNELS = 256,
    ):
        check_adapted(i_adapt_layer, layer, stack)
        embedding_dim = bottleneck_dim * (2 if adapt_layer_type == "muladd" else 1)
        if adapt_enroll_dim != embedding_dim:
            raise ValueError(
                f"adapt_enroll_dim must be {embedding_dim} with bottleneck_dim {bottleneck_dim} "
                f"and adapt_layer_type {adapt_layer_type}, got {adapt_enroll_dim}"
            )
        _check_skip_dim(skip_dim, bottleneck_dim)
        super().__init__(
            input_dim,
            layer=layer,
            stack=stack,
            bottleneck_dim=bottleneck_dim,
            hidden_dim=hidden_dim,
            skip_dim=skip_dim,
            kernel=kernel,
            causal=causal,
            norm_type=norm_type,
            pre_nonlinear=pre_nonlinear,
            nonlinear=nonlinear,
            i_adapt_layer=i_adapt_layer,
            adapt_layer_type=adapt_layer_type,
            adapt_enroll_dim=adapt_enroll_dim,
            use_spk_emb=use_spk_emb,
            spk_emb_dim=spk_emb_dim,
        )
        self.has_global_norms = _has_global_norms(self, norm_type)
        self.embedding_dim = adapt_enroll_dim * (1 if skip_dim is None else 2)

    def embed(self, input_aux, ilens_aux, additional=None):
        """Embed the enrollment.

        Args:
            input_aux: encoded enrollment ``(B, L, N)``, or embeddings ``(B, N)`` with
                ``use_spk_emb``.
            ilens_aux: valid frames ``(B,)``.
            additional: ``(B, D)``, added to the embedding: what another network knows of it.

        Returns:
            ``(B, D)``, D being ``adapt_enroll_dim``, twice that with skip connections.
        """
        if self.use_spk_emb:
            return self.auxiliary_net(input_aux.reshape(len(input_aux), -1, 1)).squeeze(-1)
        frames = run_tcn(self.auxiliary_net, input_aux.transpose(1, 2), ilens_aux)
        embedding = frames.sum(-1) / ilens_aux.to(frames)[:, None]
        return embedding if additional is None else embedding + additional

    def forward(self, input, ilens, input_aux, ilens_aux, suffix_tag="", additional=None):
        """Extract the target from the encoded mixture.

        Args:
            input: ``(B, L, N)``; ilens: ``(B,)``; input_aux, ilens_aux, additional: as in `embed`.
            suffix_tag: appended to the keys of the third output.

        Returns:
            masked features ``(B, L, N)``, ``ilens``, and
            ``{"enroll_emb<suffix>": (B, D)}`` (with its gradient: the speaker-identification
            loss needs it).
        """
        _check_real(input)
        embedding = self.embed(input_aux, ilens_aux, additional)
        masked = self.apply_mask(input, self.estimate_mask(input, ilens, embedding))
        return masked, ilens, OrderedDict({f"enroll_emb{suffix_tag}": embedding})


class TCNExtractor(_TCNMask, AbsExtractor):
    """The mask network of Conv-TasNet: what `TDSpeakerBeamExtractor` is without an enrollment.

    Its ``tcn`` has the parameters of that of ESPnet's ``TCNSeparator`` (without skip connections).

    Attributes:
        needs_enrollment: False. has_global_norms: whether a norm sees all frames.

    Args:
        input_dim, ...: as of `TDSpeakerBeamExtractor`.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    needs_enrollment = False

    def __init__(
        self,
        input_dim,
        layer: COUNT = 8,
        stack: COUNT = 3,
        bottleneck_dim: CHANNELS = 128,
        hidden_dim: CHANNELS = 512,
        skip_dim: Maybe(CHANNELS) = 128,
        kernel: Number(1, 63, odd=True) = 3,
        causal: Flag() = False,
        norm_type: _NORM = "gLN",
        pre_nonlinear: _BEFORE_MASK = "prelu",
        nonlinear: _MASK = "relu",
    ):
        super().__init__()
        _check_skip_dim(skip_dim, bottleneck_dim)
        self.tcn = TemporalConvNet(
            N=input_dim,
            B=bottleneck_dim,
            H=hidden_dim,
            P=kernel,
            X=layer,
            R=stack,
            C=1,
            Sc=skip_dim,
            norm_type=norm_type,
            causal=causal,
            pre_mask_nonlinear=pre_nonlinear,
            mask_nonlinear=nonlinear,
        )
        self.has_global_norms = _has_global_norms(self, norm_type)

    def forward(self, input, ilens, input_aux=None, ilens_aux=None, suffix_tag="", additional=None):
        """As of `TDSpeakerBeamExtractor`, without an enrollment; the third output is empty."""
        _check_real(input)
        return self.apply_mask(input, self.estimate_mask(input, ilens)), ilens, OrderedDict()


def _check_skip_dim(skip_dim, bottleneck_dim):
    if skip_dim not in (None, bottleneck_dim):
        raise ValueError(
            f"skip_dim must be {bottleneck_dim} with bottleneck_dim {bottleneck_dim}, or null; got "
            f"{skip_dim}"
        )


def _has_global_norms(module, norm_type):
    kinds = {type(m).__name__ for m in module.modules() if "Norm" in type(m).__name__}
    if not kinds <= {"GlobalLayerNorm", "ChannelwiseLayerNorm"}:
        raise ValueError(f"norm_type must be gLN or cLN here, got {norm_type}")
    return "GlobalLayerNorm" in kinds


def _check_real(feature):
    if not isinstance(feature, torch.Tensor) or torch.is_complex(feature):
        raise ValueError("complex features are not supported; use the conv encoder")
