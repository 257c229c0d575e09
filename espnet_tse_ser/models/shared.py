"""One encoder for enhancement and emotion recognition, trained together."""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.models.espnet_ser_model import CLASS_WEIGHT, NORMS, ESPnetSERModel
from espnet_tse_ser.recognise.enhancement import MaskHead
from espnet_tse_ser.recognise.experts import SparseExperts
from espnet_tse_ser.training.precision import float32
from espnet_tse_ser.training.streams import of_streams
from espnet_tse_ser.values.kinds import Choice, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, LAYERS, Number

SHARING = ("sum", "sums", "experts")


class SharedModel(ESPnetSERModel):
    """Recognise the emotion of noisy speech, and enhance it, by the layers of one SSL encoder.

    Of the ICASSP 2025 paper on shared self-supervised representations with integrated enhancement
    (NSF PAR 10655472), as its public sequel describes the model (Sparse MERIT, Tzeng, Busso, Lee,
    arXiv 2509.08470)::

        L = CE + ratio L1 (+ balance_weight load balance)

    L1 is that of the log1p magnitudes of `MaskHead`. The speech is noisy, and the target alone is
    what it is enhanced towards.

    Args:
        labels, frontend, ..., hidden_norm: of `ESPnetSERModel`. The front-end is an `SSLFrontend`
            with a weighted sum of layers.
        ratio: weight of the enhancement.
        sharing: what the two heads have of the layers: one weighted ``sum`` for both (the paper's),
            ``sums`` of their own, or routed ``experts`` on all layers (Sparse MERIT's).
        mask_hidden, mask_layers: of `MaskHead`.
        num_experts, expert_hidden, balance_weight: of the experts.

    Raises:
        ValueError: another front-end, or one of utterances of a fixed length.
    """

    targets = ("clean",)
    enhances = True
    measures = ESPnetSERModel.measures | {"ce": "min", "l1": "min"}

    def __init__(
        self,
        labels,
        frontend,
        normalize,
        specaug,
        preencoder,
        encoder,
        pooling,
        dropout: DROPOUT = 0.0,
        label_smoothing: DROPOUT = 0.0,
        class_weight: CLASS_WEIGHT = None,
        hidden: Maybe(CHANNELS) = None,
        hidden_norm: Choice(*NORMS) = "batch_norm",
        ratio: Number(0, above=True) = 1.0,
        sharing: Choice(*SHARING) = "sum",
        mask_hidden: CHANNELS = 256,
        mask_layers: LAYERS = 2,
        num_experts: Number(2, 64, whole=True) = 3,
        expert_hidden: CHANNELS = 4096,
        balance_weight: Number(0) = 0.01,
    ):
        parts = (frontend, normalize, specaug, preencoder, encoder, pooling)
        of_emotion = dropout, label_smoothing, class_weight, hidden, hidden_norm
        super().__init__(labels, *parts, *of_emotion)
        if getattr(frontend, "layer", None) != "weighted" or frontend.fixed_samples is not None:
            raise ValueError("needs frontend: ssl with layer: weighted and without fixed_seconds")
        self.ratio, self.balance_weight = ratio, balance_weight
        size, layers = frontend.output_size(), len(frontend.layer_weights)
        self.enhancement = MaskHead(size, mask_hidden, mask_layers)
        self.enhancement_weights = self.experts = None
        if sharing == "sums":
            self.enhancement_weights = torch.nn.Parameter(torch.zeros(layers))
            self.enhancement_weights._no_weight_decay = True
        if sharing == "experts":
            frontend.layer_weights.requires_grad_(False)
            self.experts = SparseExperts(layers * size, size, expert_hidden, num_experts, 2)

    def share(self, speech, lengths):
        """What the heads have of noisy speech ``(B, T)`` with valid samples ``(B,)``.

        Returns:
            features for the emotion and for the enhancement, ``(B, F, D)`` each with zeros in
            padded frames; valid frames ``(B,)``; loss of load balance, 0 without experts.
        """
        layers, num_frames = self.frontend.layers(speech, lengths)
        balance = 0.0
        if self.experts is not None:
            normed = torch.cat([F.layer_norm(x, x.shape[2:]) for x in layers], 2)
            (emotion, enhancement), balance = self.experts(normed, num_frames)
        else:
            emotion = enhancement = self.frontend.sum(layers, self.frontend.layer_weights)
            if self.enhancement_weights is not None:
                enhancement = self.frontend.sum(layers, self.enhancement_weights)
        mask = frame_mask(num_frames, emotion.shape[1])[..., None]
        return emotion * mask, enhancement * mask, num_frames, balance

    def for_heads(self, speech, speech_lengths):
        """What `share` gives, and the adaptation of the `MaskHead`, of the streams of `inputs`."""
        return *self.share(speech, speech_lengths), None

    def logits(self, **streams):
        """As of `ESPnetSERModel`, of the streams of `inputs`."""
        return self.classify(self.embed(**streams))

    def embed(self, **streams):
        """As of `ESPnetSERModel`, of the streams of `inputs`."""
        feats, _, num_frames, *_ = self.for_heads(**streams)
        return self.encode(feats, num_frames)

    def recognize_and_enhance(self, **streams):
        """Logits ``(B, K)`` and enhanced speech ``(B, T)`` of noisy speech, as of `logits`."""
        emotion, enhancement, num_frames, _, adaptation = self.for_heads(**streams)
        noisy = streams["speech"], streams["speech_lengths"]
        logits = self.classify(self.encode(emotion, num_frames))
        return logits, self.enhancement.enhance(*noisy, enhancement, num_frames, adaptation)

    def losses(self, emotion, clean, clean_lengths, **batch):
        """As of `ESPnetSERModel`.

        Args:
            clean: the target alone ``(B, T)``, as it is in the noisy speech ``(B, T)``.
        """
        streams = of_streams(batch, self.inputs)
        noisy = streams["speech"], streams["speech_lengths"]
        shared, enhancement, num_frames, balance, adaptation = self.for_heads(**streams)
        logits = self.classify(self.encode(shared, num_frames))
        l1 = self.enhancement.loss(*noisy, enhancement, num_frames, clean, adaptation)
        with float32(logits):
            ce = self.emotion_loss(logits, emotion)
            loss = ce + self.ratio * l1 + self.balance_weight * balance
        return logits, loss, {"ce": ce.detach(), "l1": l1.detach()}
