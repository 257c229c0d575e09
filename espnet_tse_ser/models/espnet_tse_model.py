"""The extraction model: ESPnet's, for one target, padding masked, with speaker identification."""

import math

import torch
import torch.nn.functional as F
from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet_tse_ser.audio.levels import restore, standardize
from espnet_tse_ser.frontends.td_speakerbeam.filterbank import set_cosine_filterbank
from espnet_tse_ser.models.snr_loss import OF_LEVEL, absent_loss
from espnet_tse_ser.models.speaker_encoder import RESEMBLYZER, SpeakerEncoder
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.values.kinds import Choice, Flag, Maybe, Only
from espnet_tse_ser.values.numbers import Number

_FILTERBANK = Choice("random", "cosine")


class ESPnetTSEModel(ESPnetExtractionModel):
    """Extract one target from a mixture, given an enrollment where the extractor takes one.

    Neither the offset nor the level of either changes what is extracted; the estimate has the level
    of the mixture, and no offset.

    Parameters have the names of ESPnet's ``ESPnetExtractionModel`` (``encoder``, ``extractor``,
    ``decoder``), so its checkpoints load.

    Args:
        encoder, extractor, decoder, loss_wrappers: ESPnet's or ours.
        filterbank: what encoder and decoder start from: ``random`` weights or the ``cosine``
            filterbank of `set_cosine_filterbank`, which makes short trainings better.
        speaker_loss_weight: weight of the cross entropy that identifies the target speaker from
            the enrollment embedding (Delcroix et al., ICASSP 2020); 0 leaves the loss out.
        num_speakers: training speakers; needed when the weight is above 0.
        speaker_encoder: ``resemblyzer`` embeds enrollments by the pretrained `SpeakerEncoder` too,
            whose part in the embedding starts at 0, beside the auxiliary network; alone, in its
            place, with an extractor of ``use_spk_emb``.
        num_spk, flexible_numspk, share_encoder, extract_feats_in_collect_stats: ESPnet's.

    Raises:
        ValueError: nothing to train on.
    """

    def __init__(
        self,
        encoder,
        extractor,
        decoder,
        loss_wrappers,
        filterbank: _FILTERBANK = "random",
        speaker_loss_weight: Number(0) = 0.0,
        num_speakers: Number(0, whole=True) = 0,
        speaker_encoder: Maybe(Choice(RESEMBLYZER)) = None,
        num_spk: Only(1) = 1,
        flexible_numspk: Only(False) = False,
        share_encoder: Only(True) = True,
        extract_feats_in_collect_stats: Flag() = False,
    ):
        super().__init__(encoder, extractor, decoder, loss_wrappers)
        if not any(w.weight > 0 and not w.criterion.only_for_test for w in loss_wrappers):
            raise ValueError("no criterion with a weight above 0 is trained on")
        if filterbank == "cosine":
            if not hasattr(self.encoder, "conv1d"):
                raise ValueError("filterbank cosine is of encoder conv; give filterbank: random")
            set_cosine_filterbank(self.encoder, self.decoder)
        self.speaker_loss_weight = speaker_loss_weight
        self.speaker_encoder = self.speaker_projection = self.speaker_classifier = None
        alone = getattr(self.extractor, "use_spk_emb", False)
        if speaker_encoder is not None:
            if not self.needs_enrollment:
                raise ValueError("speaker_encoder needs an extractor with enrollments")
            self.speaker_encoder = SpeakerEncoder()
            if not alone:
                size = self.extractor.embedding_dim
                self.speaker_projection = torch.nn.Linear(SpeakerEncoder.size, size, bias=False)
                torch.nn.init.zeros_(self.speaker_projection.weight)
        elif alone:
            raise ValueError("use_spk_emb, of the extractor, needs a speaker_encoder")
        if speaker_loss_weight > 0:
            if not self.needs_enrollment:
                raise ValueError("speaker_loss_weight > 0 needs an extractor with enrollments")
            if num_speakers < 2:
                raise ValueError("speaker_loss_weight > 0 needs num_speakers >= 2")
            size = self.extractor.embedding_dim
            self.speaker_classifier = torch.nn.Linear(size, num_speakers)

    @property
    def needs_enrollment(self):
        """Whether it extracts with an enrollment (ESPnet's extractor does); enhancement without."""
        return getattr(self.extractor, "needs_enrollment", True)

    @property
    def sets_level(self):
        """Whether a loss that it is trained on depends on the level of its output."""
        return any(
            wrapper.weight > 0
            and isinstance(wrapper.criterion, OF_LEVEL)
            and not wrapper.criterion.only_for_test
            for wrapper in self.loss_wrappers
        )

    def extract(self, speech_mix, lengths, enroll=None, enroll_lengths=None):
        """Extract the target.

        Args:
            speech_mix: mixtures ``(B, T)``, 16 kHz, [-1, 1]; lengths: valid samples ``(B,)``.
            enroll: enrollments ``(B, T')``, where it needs them; enroll_lengths: valid samples
                ``(B,)``.

        Returns:
            estimate ``(B, T)``, zero beyond ``lengths``; enrollment embedding ``(B, D)`` or None.

        Raises:
            ValueError: a mixture or an enrollment is shorter than one encoder window.
        """
        used = [lengths, enroll_lengths] if self.needs_enrollment else [lengths]
        shortest = int(min(each.min() for each in used))
        window = getattr(self.encoder, "kernel_size", 1)
        if shortest < window:
            raise ValueError(f"{shortest} samples are less than one encoder window ({window})")
        feature, num_frames, level = self._encode(speech_mix, lengths)
        enrolled = self._enrolled(enroll, enroll_lengths) if self.needs_enrollment else {}
        masked, _, others = self.extractor(feature, num_frames, **enrolled)
        estimate = self._decode(masked, lengths, speech_mix.shape[1], level)
        return estimate, widened(others["enroll_emb"]) if self.needs_enrollment else None

    def embed(self, enroll, enroll_lengths):
        """Embed enrollments ``(B, T')``: ``(B, D)``, what `extract` returns beside the estimate."""
        return self.extractor.embed(**self._enrolled(enroll, enroll_lengths))

    def _enrolled(self, enroll, enroll_lengths):
        """What the extractor takes of enrollments, by the names of its arguments."""
        voice = None
        if self.speaker_encoder is not None:
            voice = self.speaker_encoder.embed(enroll, enroll_lengths)
            voice = F.layer_norm(voice, voice.shape[1:])
            if self.speaker_projection is None:
                return {"input_aux": voice, "ilens_aux": None}
        feature, num_frames, _ = self._encode(enroll, enroll_lengths)
        enrolled = {"input_aux": feature, "ilens_aux": num_frames}
        return (
            enrolled if voice is None else enrolled | {"additional": self.speaker_projection(voice)}
        )

    def extract_embedded(self, speech_mix, lengths, embedding, statistics=None, level=None):
        """The estimate of `extract`, from mixtures and what `embed` made of their enrollments.

        The embedding is None for a model that needs no enrollment.
        With `NormStatistics` and `Level` the mixtures are pieces of one recording.
        """
        feature, num_frames, level = self._encode(speech_mix, lengths, level)
        mask = self.extractor.estimate_mask(feature, num_frames, embedding, statistics)
        return self._decode(
            self.extractor.apply_mask(feature, mask), lengths, speech_mix.shape[1], level
        )

    def _encode(self, speech, lengths, level=None):
        with float32(speech):
            # Without what no item of the batch uses.
            speech, level = standardize(speech[:, : lengths.max()], lengths, level=level)
            return *self.encoder(speech, lengths), level

    def _decode(self, masked, lengths, num_samples, level):
        with float32(masked):
            estimate, _ = self.decoder(widened(masked), lengths)
            estimate = F.pad(restore(estimate, level), (0, num_samples - estimate.shape[1]))
            return estimate * _sample_mask(lengths, num_samples)

    def extraction_loss(self, estimate, reference, lengths, mixture=None, absent=None):
        """The configured criterions over the valid samples of each utterance.

        The reference's offset does not count: no estimate has it.

        Args:
            absent: ``(B, 1)``, not 0 where the target is not in the ``mixture``: its loss is
                `absent_loss` instead. None: it always is.

        Returns:
            scalar loss, and a dict of detached statistics; of nothing they are NaN.
        """
        if absent is not None:
            return self._loss_with_absent(estimate, reference, lengths, mixture, absent[:, 0] != 0)
        reference, _ = standardize(reference, lengths, rms=None)
        loss, stats = 0.0, {}
        whole = bool((lengths == estimate.shape[1]).all())
        for wrapper in self.loss_wrappers:
            if getattr(wrapper.criterion, "only_for_test", False) and self.training:
                continue
            if whole:
                values = wrapper.criterion(reference, estimate)
            else:
                # ESPnet's criterions do not mask padding and remove the mean: one by one.
                values = torch.cat(
                    [
                        wrapper.criterion(reference[i : i + 1, :n], estimate[i : i + 1, :n])
                        for i, n in enumerate(lengths.tolist())
                    ]
                )
            value = values.mean()
            stats[wrapper.criterion.name] = value.detach()
            loss = loss + wrapper.weight * value
        return loss, stats

    def _loss_with_absent(self, estimate, reference, lengths, mixture, absent):
        mixture, _ = standardize(mixture, lengths, rms=None)
        levels = absent_loss(estimate[absent], mixture[absent])
        loss, stats = 0.0, {}
        if absent.all():
            criterions = [w.criterion for w in self.loss_wrappers]
            names = [c.name for c in criterions if not (c.only_for_test and self.training)]
            stats = dict.fromkeys(names, levels.new_tensor(math.nan))
        else:
            here = ~absent
            loss, stats = self.extraction_loss(estimate[here], reference[here], lengths[here])
            loss = loss * here.float().mean()
        stats["absent_level"] = levels.mean().detach()
        return loss + levels.sum() / len(absent), stats

    def forward(
        self,
        speech_mix,
        speech_mix_lengths,
        speech_ref1,
        enroll_ref1=None,
        enroll_ref1_lengths=None,
        speaker=None,
        absent=None,
        **kwargs,
    ):
        """Compute the loss of a batch.

        Args:
            speech_mix, speech_ref1: ``(B, T)``; enroll_ref1: ``(B, T')``, where it needs them;
                speaker: ``(B, 1)`` index among the training speakers (training with the speaker
                loss only); absent: of `extraction_loss`.

        Returns:
            loss (scalar), stats, weight (the batch size).
        """
        estimate, embedding = self.extract(
            speech_mix, speech_mix_lengths, enroll_ref1, enroll_ref1_lengths
        )
        with float32(estimate):
            loss, stats = self.extraction_loss(
                estimate, speech_ref1, speech_mix_lengths, speech_mix, absent
            )
            # Validation speakers are unseen and have no class.
            if self.speaker_classifier is not None and self.training:
                logits = self.speaker_classifier(embedding)
                speaker_loss = F.cross_entropy(logits, speaker[:, 0])
                loss = loss + self.speaker_loss_weight * speaker_loss
                stats["speaker_loss"] = speaker_loss.detach()
                stats["speaker_acc"] = (logits.argmax(-1) == speaker[:, 0]).float().mean()
        stats["loss"] = loss.detach()
        return force_gatherable((loss, stats, len(speech_mix)), loss.device)


def _sample_mask(lengths, num_samples):
    samples = torch.arange(num_samples, device=lengths.device)
    return (samples < lengths[:, None]).float()
