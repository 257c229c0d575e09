"""The emotion recognition model: front-end, encoder, pooling, classifier."""

import contextlib

import torch
import torch.nn.functional as F
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_tse_ser.recognise.batch_norm import BatchNorm
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.training.streams import of_streams
from espnet_tse_ser.values.kinds import Choice, Either, Maybe, Several
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, Number

BALANCED = "balanced"
CLASS_WEIGHT = Maybe(Either(Choice(BALANCED), Several(Number(0, above=True), 2)))
NORMS = {"batch_norm": BatchNorm, "layer_norm": torch.nn.LayerNorm}


class ESPnetSERModel(AbsESPnetModel):
    """Recognise the emotion of an utterance.

    A class in its place, ``model`` of a configuration, may have other inputs and losses. It
    declares the streams (training/streams.py) that it recognises from as ``inputs``, those that it
    is trained towards as ``targets``, and what `losses` measures, with the better direction, as
    ``measures``.
    `logits` and `losses` get the streams by these names, and their lengths as ``<name>_lengths``.

    Args:
        labels: the classes, in the order of the outputs.
        frontend: ``(speech, lengths) -> (feats, num_frames)``.
        normalize, specaug, preencoder: maps of ``(feats, num_frames)``, each may be None; specaug
            acts in training only.
        encoder: ``(feats, num_frames) -> (feats, num_frames, _)``.
        pooling: ``(feats, num_frames) -> (B, D)``.
        dropout: before the classifier's last layer. hidden: units of a layer before that (linear,
            ``hidden_norm``, ReLU); None: none.
        label_smoothing: of the cross entropy; class_weight: one factor for each class, None, or
            ``balanced``: N / (K n) for a class with n of the N training utterances of K classes.

    After a forward in evaluation mode ``predictions`` holds one ``(reference, hypothesis)`` pair of
    class indices for each utterance since `reset_predictions`.
    """

    inputs = ("speech",)
    targets = ()
    measures = {"loss": "min", "acc": "max"}
    enhances = False  # whether `recognize_and_enhance` does

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
    ):
        super().__init__()
        balanced = class_weight == BALANCED
        if balanced:  # as of equal classes, until `balance`
            class_weight = [1.0] * len(labels)
        if class_weight is not None and len(class_weight) != len(labels):
            raise ValueError(f"class_weight needs {len(labels)} values, got {len(class_weight)}")
        self.labels = list(labels)
        self.frontend, self.normalize, self.specaug = frontend, normalize, specaug
        self.preencoder, self.encoder, self.pooling = preencoder, encoder, pooling
        self.dropout = torch.nn.Dropout(dropout)
        size, self.hidden = pooling.output_size(), None
        if hidden is not None:
            norm = NORMS[hidden_norm](hidden)
            layers = torch.nn.Linear(size, hidden), norm, torch.nn.ReLU()
            size, self.hidden = hidden, torch.nn.Sequential(*layers)
        self.classifier = torch.nn.Linear(size, len(labels))
        self.label_smoothing = label_smoothing
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float)
        self.register_buffer("class_weight", weight, persistent=balanced)
        self.reset_predictions()

    def reset_predictions(self):
        """Drop the predictions of earlier forwards."""
        self.predictions = []

    def balance(self, counts):
        """Let ``balanced`` class weights be those of a training with so many of each class."""
        counts = torch.tensor(counts, dtype=torch.float)
        self.class_weight.copy_(counts.sum() / (len(counts) * counts))

    def logits(self, speech, speech_lengths):
        """Classify.

        Args:
            speech: ``(B, T)``, or the front-end's features of it ``(B, F, D)``.
            speech_lengths: valid samples or frames ``(B,)``. What lies beyond has no effect.

        Returns:
            ``(B, len(labels))``.
        """
        return self.classify(self.embed(speech, speech_lengths))

    def recognize_and_enhance(self, **streams):
        """`logits` of the streams, and the enhanced speech ``(B, T)`` of a model that has it."""
        return self.logits(**streams), None

    def embed(self, speech, speech_lengths):
        """Embed speech, as of `logits`: what the pooling gives, ``(B, D)``."""
        return self.encode(*self._features(speech, speech_lengths))

    def encode(self, feats, num_frames):
        """Embed features of the front-end, ``(B, F, D)`` with valid frames ``(B,)``."""
        with float32(feats):
            feats = widened(feats)
            if self.normalize is not None:
                feats, num_frames = self.normalize(feats, num_frames)
            if self.specaug is not None and self.training:
                feats, num_frames = self.specaug(feats, num_frames)
        if self.preencoder is not None:
            feats, num_frames = self.preencoder(feats, num_frames)
        feats, num_frames, _ = self.encoder(feats, num_frames)
        with float32(feats):
            return self.pooling(widened(feats), num_frames)

    def classify(self, embedding):
        """Logits of embeddings ``(B, D)``."""
        with float32(embedding):
            embedding = widened(embedding)
            if self.hidden is not None:
                embedding = self.hidden(embedding)
            return self.classifier(self.dropout(embedding))

    def emotion_loss(self, logits, emotion):
        """Cross entropy (scalar) of logits ``(B, K)`` for class indices ``(B,)``."""
        return F.cross_entropy(
            logits, emotion, weight=self.class_weight, label_smoothing=self.label_smoothing
        )

    def losses(self, emotion, **batch):
        """Classify, and compute what is to be minimised.

        Args:
            emotion: class indices ``(B,)``. batch: the streams of `inputs` and `targets`, and more.

        Returns:
            logits ``(B, len(labels))``, the loss (scalar), and further `measures` (a dict).
        """
        logits = self.logits(**of_streams(batch, self.inputs))
        with float32(logits):
            return logits, self.emotion_loss(logits, emotion), {}

    def forward(self, emotion, **batch):
        """Compute the loss of a batch.

        Args:
            emotion: class indices ``(B, 1)``. batch: as of `losses`.

        Returns:
            loss (scalar), stats (`measures`), weight (the batch size).
        """
        emotion = emotion[:, 0]
        logits, loss, stats = self.losses(emotion, **batch)
        hypotheses = logits.argmax(-1)
        if not self.training:
            self.predictions += zip(emotion.tolist(), hypotheses.tolist(), strict=True)
        stats |= {"loss": loss.detach(), "acc": (hypotheses == emotion).float().mean()}
        return force_gatherable((loss, stats, len(emotion)), loss.device)

    def collect_feats(self, speech, speech_lengths, **kwargs):
        """Features of the front-end, before normalisation: ``feats``, ``feats_lengths``."""
        feats, num_frames = self._features(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": num_frames}

    def _features(self, speech, lengths, **level):
        if speech.dim() == 3:
            return speech, lengths
        # Without parameters it is signal processing, not a network.
        is_network = any(True for _ in self.frontend.parameters())
        with contextlib.nullcontext() if is_network else float32(speech):
            return self.frontend(speech, lengths, **level)
