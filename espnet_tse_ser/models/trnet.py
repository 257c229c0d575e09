"""TRNet: a recogniser of denoised speech, refined by the mixture and towards clean speech."""

from typing import NamedTuple

import torch

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.espnet_ser_model import CLASS_WEIGHT, ESPnetSERModel
from espnet_tse_ser.recognise.refinement import PER, Bridge, Compensation
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.training.streams import of_streams
from espnet_tse_ser.values.kinds import Choice, Flag, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, Number

_LEAST = 0.01  # of a mean squared error that another is relative to: 0.4 dB in log-mel energies


class Refined(NamedTuple):
    """What refinement gives of a batch.

    Args:
        denoised, feats: features ``(B, F, D)`` of the denoised speech, and after the compensation.
        num_frames: valid ones ``(B,)``. before, after: embedding ``(B, E)``, and after the bridge.
        score: ``(B,)``, 1 for what seems clean (and where there is no compensation).
    """

    denoised: torch.Tensor
    feats: torch.Tensor
    num_frames: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    score: torch.Tensor


class TRNet(ESPnetSERModel):
    """Recognise the emotion of what a fixed front-end has denoised.

    Chen & Zhang, Applied Acoustics 2024 (arXiv 2404.12979). `Compensation` blends the features of
    the mixture and of the denoised speech, `Bridge` moves the embedding, and two losses pull both
    towards clean speech::

        L = CE + low_weight MSE(X', X_clean) + high_weight MSE(e', e_clean)

    ``e_clean`` is the embedding that a recogniser of clean speech (the teacher, of the same
    architecture) has of the same utterance. Squared errors are means over all valid elements. Where
    the front-end takes the level out of a signal, it is that of the denoised speech, for mixture
    and clean speech too: what is blended and compared has one gain.

    Args:
        labels, frontend, ..., pooling, dropout, ..., hidden: of `ESPnetSERModel`.
        low_weight, high_weight: alpha and beta of the paper; 0 leaves a loss out.
        low_normalized: the low-level loss is that of normalised features.
        low_relative: the low-level loss is, of each utterance, its error relative to that of its
            denoised speech, so that all utterances count alike. Without, those that the front-end
            changes most rule: on RAVDESS a mixture at 0 dB has nine times the weight of a clean
            one, and the score of clean speech never gets away from that of noise.
        compensation: leave it out with False: the features are those of the denoised speech.
        bridge: leave it out with False: the classifier gets the embedding as it is.
        per, window, centred, offset: of `Compensation`.

    Raises:
        ValueError: ``low_normalized`` without a normalisation, or ``bridge`` or a low-level loss
            without the compensation, on which both act.
    """

    inputs = ("speech", "mixture")
    targets = ("clean", "embedding")
    measures = ESPnetSERModel.measures | {
        "ce": "min",
        "low": "min",
        "high": "min",
        "score": "max",
    }

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
        low_weight: Number(0) = 0.5,
        high_weight: Number(0) = 0.5,
        low_normalized: Flag() = False,
        low_relative: Flag() = False,
        compensation: Flag() = True,
        bridge: Flag() = True,
        per: Choice(*PER) = "utterance",
        window: Number(1, 9999, odd=True) = 31,
        centred: Flag() = False,
        offset: Number(-100, 100) = 0.0,
    ):
        parts = (frontend, normalize, specaug, preencoder, encoder, pooling)
        super().__init__(labels, *parts, dropout, label_smoothing, class_weight, hidden)
        if low_normalized and normalize is None:
            raise ValueError("low_normalized needs normalize, e.g. global_mvn")
        if not compensation and (bridge or low_weight):
            raise ValueError("without compensation there is no bridge, and low_weight is 0")
        self.low_weight, self.high_weight = low_weight, high_weight
        self.low_normalized, self.low_relative = low_normalized, low_relative
        self.compensation = self.bridge = None
        if compensation:
            self.compensation = Compensation(frontend.output_size(), per, window, centred, offset)
        if bridge:
            self.bridge = Bridge(pooling.output_size())

    def _level(self, speech, lengths):
        """The level that the front-end takes out of all signals of a batch, as its option."""
        if not getattr(self.frontend, "level_norm", False):
            return {}
        return {"level": standardize(speech, lengths)[1]}

    def refine(self, speech, speech_lengths, mixture, mixture_lengths, level=None):
        """Refine what a front-end made of mixtures.

        Args:
            speech: denoised ``(B, T)``, with lengths ``(B,)``; mixture: the same of its mixture.
            level: what `_level` gives of the speech, where it is known.

        Returns:
            `Refined`
        """
        denoised, num_frames = self._features(speech, speech_lengths)
        with float32(denoised):
            feats = denoised = widened(denoised)
            score = feats.new_ones(len(feats))
            if self.compensation is not None:
                level = self._level(speech, speech_lengths) if level is None else level
                noisy, _ = self._features(mixture, mixture_lengths, **level)
                feats, score = self.compensation(widened(noisy), denoised, num_frames)
        before = after = self.encode(feats, num_frames)
        if self.bridge is not None:
            with float32(before):
                after = self.bridge(widened(before), score)
        return Refined(denoised, feats, num_frames, before, after, score)

    def logits(self, speech, speech_lengths, mixture, mixture_lengths):
        """Classify: ``(B, len(labels))``; arguments as of `refine`."""
        return self.classify(self.refine(speech, speech_lengths, mixture, mixture_lengths).after)

    def losses(self, emotion, clean, clean_lengths, embedding, **batch):
        """As of `ESPnetSERModel`.

        Args:
            clean: the target alone ``(B, T)``. embedding: of the teacher ``(B, E)``.

        Raises:
            UserError: the teacher's embedding has another size.
        """
        level = self._level(batch["speech"], batch["speech_lengths"])
        refined = self.refine(**of_streams(batch, self.inputs), level=level)
        if embedding.shape[1:] != refined.after.shape[1:]:
            raise UserError(
                f"the teacher's embeddings have {embedding.shape[1]} values, this model's have "
                f"{refined.after.shape[1]}: give both recognisers the same encoder and pooling"
            )
        logits = self.classify(refined.after)
        with float32(logits):
            loss = cross_entropy = self.emotion_loss(logits, emotion)
            with torch.no_grad():
                reference, _ = self._features(clean, clean_lengths, **level)
            low = self._low_loss(refined, reference)
            high = (refined.after - embedding).square().mean()
            loss = loss + self.low_weight * low + self.high_weight * high
        stats = {"ce": cross_entropy, "low": low, "high": high, "score": refined.score.mean()}
        return logits, loss, {name: value.detach() for name, value in stats.items()}

    def _low_loss(self, refined, reference):
        """Mean squared error over the valid frames, or the mean of its ratios."""
        num_frames, bands = refined.num_frames, reference.shape[2]
        mask = frame_mask(num_frames, reference.shape[1])[..., None]

        def error_of(feats):
            """Sum of squares of each utterance ``(B,)``."""
            error = feats - reference
            if self.low_normalized:
                error = error / self.normalize.std
            return (error * mask).square().sum(dim=(1, 2))

        error = error_of(refined.feats)
        if self.low_relative:
            of_denoised = error_of(refined.denoised)
            return (error / of_denoised.clamp(min=_LEAST * num_frames * bands)).mean()
        return error.sum() / (num_frames.sum() * bands)
