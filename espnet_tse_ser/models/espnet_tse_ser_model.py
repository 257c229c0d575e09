"""Joint extraction and emotion recognition (TSE-SER-ft; Mi et al., arXiv 2409.19585)."""

import math

from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_tse_ser.training.precision import float32
from espnet_tse_ser.training.preprocessor import UNLABELLED
from espnet_tse_ser.training.streams import of_streams
from espnet_tse_ser.values.kinds import Flag
from espnet_tse_ser.values.numbers import Number

_INPUTS = ("speech", "mixture", "enrollment")  # the streams that a recogniser may have


class ESPnetTSESERModel(AbsESPnetModel):
    """Extract the target from a mixture, recognise its emotion, train both on one loss.

    L = ``w_tse`` * extraction loss (negative SI-SNR) + ``w_ser`` * that of the recogniser (cross
    entropy).

    Args:
        tse_model: `ESPnetTSEModel`; ser_model: `ESPnetSERModel`, whose speech is the estimate, or
            one with further streams: mixture and enrollment, and as a target the clean one.
        w_tse, w_ser: weights of the two losses.
        freeze_tse, freeze_ser: keep that part as it is: no gradient, evaluation mode throughout.
        ser_gradient_to_tse: whether the recogniser's loss trains the extraction too.

    Raises:
        ValueError: nothing is left to train, a part is to be trained on nothing, or the recogniser
            needs a stream that is not there.
    """

    def __init__(
        self,
        tse_model,
        ser_model,
        w_tse: Number(0) = 1.0,
        w_ser: Number(0) = 1.0,
        freeze_tse: Flag() = False,
        freeze_ser: Flag() = False,
        ser_gradient_to_tse: Flag() = True,
    ):
        super().__init__()
        if freeze_tse and freeze_ser:
            raise ValueError("freeze_tse and freeze_ser together leave nothing to train")
        if not freeze_tse and w_tse == 0 and not (w_ser > 0 and ser_gradient_to_tse):
            raise ValueError("with w_tse 0 nothing trains the extraction; give freeze_tse: true")
        if not freeze_ser and w_ser == 0:
            raise ValueError("with w_ser 0 nothing trains the recogniser; give freeze_ser: true")
        missing = {*ser_model.inputs} - {*_INPUTS} | {*ser_model.targets} - {*_INPUTS, "clean"}
        if missing:
            raise ValueError(f"the recogniser needs '{min(missing)}', which a joint model has not")
        self.tse_model, self.ser_model = tse_model, ser_model
        self.w_tse, self.w_ser = w_tse, w_ser
        self.ser_gradient_to_tse = ser_gradient_to_tse
        self.frozen = [
            part for part, freeze in ((tse_model, freeze_tse), (ser_model, freeze_ser)) if freeze
        ]
        for part in self.frozen:
            part.requires_grad_(False).eval()

    @property
    def labels(self):
        """The classes, in the order of the outputs."""
        return self.ser_model.labels

    @property
    def predictions(self):
        """(reference, hypothesis) index pairs of forwards in evaluation mode."""
        return self.ser_model.predictions

    def reset_predictions(self):
        """Drop the predictions of earlier forwards."""
        self.ser_model.reset_predictions()

    def train(self, mode=True):
        """Set training mode; frozen parts stay in evaluation mode (no dropout, statistics kept)."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def extract_and_classify(self, speech_mix, lengths, enroll=None, enroll_lengths=None):
        """Extract, then classify.

        Args:
            speech_mix: ``(B, T)``; enroll: ``(B, T')``, where a part needs it; lengths of both
                ``(B,)``.

        Returns:
            estimate ``(B, T)``, zero beyond ``lengths``, of arbitrary level; logits
            ``(B, len(labels))``.
        """
        estimate, streams = self._extract(speech_mix, lengths, enroll, enroll_lengths)
        return estimate, self.ser_model.logits(**of_streams(streams, self.ser_model.inputs))

    def _extract(self, speech_mix, lengths, enroll, enroll_lengths):
        """The estimate, and a dict of the streams that a recogniser may have as inputs."""
        estimate, _ = self.tse_model.extract(speech_mix, lengths, enroll, enroll_lengths)
        speech = estimate if self.ser_gradient_to_tse else estimate.detach()
        streams = {"speech": speech, "mixture": speech_mix, "enrollment": enroll}
        of = {"speech": lengths, "mixture": lengths, "enrollment": enroll_lengths}
        return estimate, streams | {f"{name}_lengths": of[name] for name in _INPUTS}

    def forward(
        self,
        speech_mix,
        speech_mix_lengths,
        speech_ref1,
        enroll_ref1=None,
        enroll_ref1_lengths=None,
        *,
        emotion,
        absent=None,
        **kwargs,
    ):
        """Compute the joint loss of a batch.

        Args:
            speech_mix, speech_ref1: ``(B, T)``; enroll_ref1: ``(B, T')``, where a part needs it;
                emotion: class indices ``(B, 1)``; `UNLABELLED` ones are not recognised, and of a
                batch without others what is measured of the recogniser is NaN; absent: of
                `extraction_loss`.

        Returns:
            loss (scalar), stats, weight (the batch size).
        """
        estimate, streams = self._extract(
            speech_mix, speech_mix_lengths, enroll_ref1, enroll_ref1_lengths
        )
        streams |= {"clean": speech_ref1, "clean_lengths": speech_mix_lengths}
        emotion = emotion[:, 0]
        labelled = emotion != UNLABELLED
        if not labelled.all():
            emotion = emotion[labelled]
            streams = {k: v[labelled] for k, v in streams.items() if v is not None}
        if len(emotion):
            logits, ser_loss, ser_stats = self.ser_model.losses(emotion, **streams)
            hypotheses = logits.argmax(-1)
            accuracy = (hypotheses == emotion).float().mean()
            ser_stats |= {"ser_loss": ser_loss.detach(), "acc": accuracy}
            if not self.training:
                self.predictions.extend(zip(emotion.tolist(), hypotheses.tolist(), strict=True))
        else:  # the same measures in the same order: several processes add theirs up
            ser_loss, own = 0.0, [m for m in self.ser_model.measures if m not in ("loss", "acc")]
            ser_stats = dict.fromkeys([*own, "ser_loss", "acc"], estimate.new_tensor(math.nan))
        with float32(estimate):
            tse_loss, stats = self.tse_model.extraction_loss(
                estimate, speech_ref1, speech_mix_lengths, speech_mix, absent
            )
        loss = self.w_tse * tse_loss + self.w_ser * ser_loss
        stats |= ser_stats | {"loss": loss.detach()}
        return force_gatherable((loss, stats, len(speech_mix)), loss.device)

    def collect_feats(self, **kwargs):
        """Nothing here needs statistics: the SER part brings its own."""
        return {}
