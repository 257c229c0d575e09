"""Use a trained model: recognise emotions, with or without extraction before.

Three lines extract a target and recognise its emotion::

    from espnet_tse_ser.inference.model import TSESER
    model = TSESER.from_pretrained()  # or ("exp/tse_ser_ft_default/fold1"), ("user/name"), ...
    result = model(mixture, enrollment, rate=16000)  # .label .probabilities .speech .rate
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.audio.amplitudes import check_rate
from espnet_tse_ser.audio.quality import measure
from espnet_tse_ser.audio.silence import sound_span
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import (
    Embeddings,
    Extraction,
    check_output,
    device_of,
    extract,
    pad_signals,
    rescale,
)
from espnet_tse_ser.inference.calibration import read_calibration
from espnet_tse_ser.inference.cautions import cautions
from espnet_tse_ser.inference.evidence import evidence
from espnet_tse_ser.inference.frames import suppression
from espnet_tse_ser.inference.model_source import has_recogniser, is_joint, model_directory
from espnet_tse_ser.inference.preparation import enroll, prepare
from espnet_tse_ser.inference.shipped import DEFAULT
from espnet_tse_ser.inference.voices import Voices
from espnet_tse_ser.training.checkpoints import (
    chosen_criterion,
    epoch_of,
    find_weights,
    get_rate,
    load_weights,
    read_config,
)
from espnet_tse_ser.training.streams import STREAMS, of_streams

# Of the speech that is recognised; chosen on dev mixtures of RAVDESS as recorded, with a talker.
_SILENCE_DB, _MARGIN_SECONDS = -30, 0.1


@dataclass(frozen=True)
class Recognition:
    """What was recognised.

    ``label`` is the most probable emotion, ``probabilities`` a dict label -> probability,
    ``speech`` the extracted or enhanced target ``(num_samples,)`` float32 (None of a model without)
    at ``rate`` Hz; ``over_suppressed`` is in frames.py. ``calibrated``: whether the probabilities
    have a fitted temperature. ``target_present``, of a model with a calibration (calibration.py),
    is the probability that the target is in the mixture at all, and ``evidence`` what that is of.
    ``warnings`` are `cautions`, of `TSESER.__call__`.
    """

    label: str
    probabilities: dict
    speech: np.ndarray | None
    rate: int
    over_suppressed: float | None = None
    calibrated: bool = False
    target_present: float | None = None
    evidence: np.ndarray | None = None
    warnings: tuple = ()


class TSESER:
    """A joint model (TSE-SER-ft), or a recogniser alone, in evaluation mode.

    Args:
        model: `ESPnetTSESERModel` or `ESPnetSERModel`. rate: sampling rate of the model in Hz.
        device: where to compute, e.g. ``cuda:0``. epoch: whose weights the model has, as a text.
        front_end: `FrontEnd` that gives the speech of a recogniser alone, or None: that is given.
        condition: what a recogniser alone was trained on, e.g. "denoised"; None: not known.
        calibration: `Calibration` of the model, or None.

    Raises:
        UserError: a front-end beside a joint model, or of another rate.
    """

    def __init__(
        self,
        model,
        rate,
        device="cpu",
        epoch="n/a",
        front_end=None,
        condition=None,
        calibration=None,
    ):
        self.model, self.rate, self.epoch = model.to(device).eval(), rate, epoch
        self.labels = list(model.labels)
        self.extracts = hasattr(model, "tse_model")
        self.recogniser = model.ser_model if self.extracts else model
        self.front_end, self.condition, self.calibration = front_end, condition, calibration
        if front_end is not None and (self.extracts or front_end.rate != rate):
            raise UserError(
                "a joint model has a front-end of its own; leave the other one out"
                if self.extracts
                else f"the front-end is for {front_end.rate} Hz, the recogniser for {rate} Hz"
            )

    @classmethod
    def from_pretrained(
        cls,
        model_dir=DEFAULT,
        weights=None,
        device="cpu",
        front_end=None,
        calibrated=True,
    ):
        """Load a model: one that comes with the package, or that stage 10, 11 or 16 has made.

        Args:
            model_dir: as of `model_directory`. weights: default those chosen on dev.
            device, front_end: as above.
            calibrated: whether the calibration that is beside the model is used; not with other
                weights or with a front-end, which it is not of.

        Raises:
            UserError: as `model_directory`; a file is missing or broken, it is another kind of
                model, or the weights do not fit the configuration.
        """
        with model_directory(model_dir) as directory:
            config = read_config(directory)
            path = directory / "config.yaml"
            rate = get_rate(config, "fs", path)
            model = _build(config, path)
            calibration = None
            if weights is None:
                weights = find_weights(directory, chosen_criterion(config, path))
                if calibrated and front_end is None:
                    calibration = read_calibration(directory, weights)
            load_weights(model, Path(weights))
        condition, epoch = config.get("condition"), epoch_of(weights)
        return cls(model, rate, device, epoch, front_end, condition, calibration)

    @property
    def inputs(self):
        """The streams (training/streams.py) that `recognize` takes, in its order."""
        if not self.extracts:
            return self.recogniser.inputs
        enrolled = self.model.tse_model.needs_enrollment or "enrollment" in self.recogniser.inputs
        return ("mixture", "enrollment") if enrolled else ("mixture",)

    @property
    def calibrated(self):
        """Whether the probabilities of the emotions have a fitted temperature."""
        return self.calibration is not None and self.calibration.temperature != 1

    @functools.cached_property
    def voices(self):
        """`Voices` at the model's rate, loaded when they are first asked."""
        return Voices(self.rate, device_of(self.model))

    @property
    def sets_level(self):
        """Whether the level of what is extracted is the target's; see `FrontEnd`."""
        if self.front_end is not None:
            return self.front_end.sets_level
        return self.extracts and self.model.tse_model.sets_level

    @property
    def gives_speech(self):
        """Whether what it recognises has the target's speech: extracted, or enhanced beside."""
        return self.extracts or self.recogniser.enhances

    @property
    def needs_enrollment(self):
        """Whether the model, or its front-end, takes an enrollment."""
        needed = self.front_end is not None and self.front_end.needs_enrollment
        return needed or "enrollment" in self.inputs

    def __call__(self, mixture, enrollment=None, rate=None, speech=None, enrollment_rate=None):
        """Recognise one recording.

        Args:
            mixture: ``(num_samples,)`` or ``(num_samples, num_channels)`` float in [-1, 1];
                channels are averaged.
            enrollment: the same of the target alone, where it is one of the `inputs`; or a list of
                such arrays, several enrollments of one target (see `enroll`).
            rate: of all in Hz; default the model's. They are resampled when it differs.
            speech: what a front-end made of the mixture, for a recogniser of both.
            enrollment_rate: of the enrollment in Hz, where that is not ``rate``.

        Returns:
            `Recognition`.

        Raises:
            UserError: as `arrange`, or the model's output is not finite.
        """
        rate = check_rate(self.rate if rate is None else rate, "the mixture")
        given = {"mixture": (mixture, rate, "the mixture")}
        if speech is not None:
            given["speech"] = (speech, rate, "the speech")
        if enrollment is not None:
            parts = enrollment if _are_several(enrollment) else [enrollment]
            of = rate if enrollment_rate is None else check_rate(enrollment_rate, "the enrollment")
            given["enrollment"] = [(part, of, "the enrollment") for part in parts]
        result = self.recognize_one(self.arrange(given), "the mixture")
        quality, present = measure(mixture, rate), [result.target_present]
        found = cautions(self, quality, "the mixture", given.get("enrollment", ()), present)
        return replace(result, warnings=tuple(found))

    def recognize_one(self, signals, name):
        """Recognise one recording, without the silence at the ends of its speech; see `classify`.

        Args:
            signals: what `arrange` returned. name: what errors call the mixture.

        Returns:
            `Recognition`.
        """
        (result,) = self.recognize(*([signal] for signal in signals), names=[name])
        return self.without_silence(result, signals, name)

    def without_silence(self, result, signals, name):
        """A `Recognition` of the same, with what the recogniser makes of it without silent ends.

        Args:
            result: of `recognize`, of ``signals``: those of one recording, in the order of
                `inputs`. name: what errors call the mixture.
        """
        given = dict(zip(self.inputs, signals, strict=True))
        if self.extracts:
            given["speech"] = result.speech
        inside = self._sounding(given["speech"])
        if inside == slice(0, len(given["speech"])):
            return result
        row = dict(zip(self.labels, self._classify(given, inside, name), strict=True))
        return replace(result, label=max(row, key=row.get), probabilities=row)

    def arrange(self, given):
        """The prepared signals of one recording in the order of `inputs`.

        Args:
            given: name -> arguments of `prepare`, of "mixture" and "speech"; of "enrollment" those
                of `enroll`.

        Raises:
            UserError: as `prepare`; one is missing; or there is speech, but the model gets none
                beside the mixture.
        """
        if self.front_end is not None:
            return self._denoise(given)
        if "speech" in given and not {"speech", "mixture"} <= {*self.inputs}:
            raise UserError(
                f"this model recognises from {', '.join(self.inputs)}: it gets no speech beside "
                "the mixture; leave that out"
            )
        if "mixture" not in self.inputs:  # it is the recording itself that is recognised
            given = given | {"speech": given["mixture"]}
        missing = [name for name in self.inputs if name not in given]
        if missing == ["enrollment"] and self.extracts:
            raise UserError("this model extracts the target and needs an enrollment of it")
        if missing:
            raise UserError(
                f"this model recognises from {', '.join(self.inputs)}: give {missing[0]}"
            )
        signals = [self._prepare(name, given[name]) for name in self.inputs]
        lengths = {
            len(s) for s, name in zip(signals, self.inputs, strict=True) if STREAMS[name].aligned
        }
        if len(lengths) > 1:
            raise UserError(
                f"{given['speech'][-1]}: has not as many samples as the mixture; give both"
            )
        return signals

    def _denoise(self, given):
        """What `arrange` returns where the speech is what the front-end makes of the mixture."""
        if "speech" in given:
            raise UserError("a front-end gives the speech: leave out the one that is given")
        if self.front_end.needs_enrollment and "enrollment" not in given:
            raise UserError("this front-end extracts the target and needs an enrollment of it")
        signals = {name: self._prepare(name, what) for name, what in given.items()}
        enrolled = [[signals["enrollment"]]] if self.front_end.needs_enrollment else []
        (signals["speech"],) = extract(self.front_end, [signals["mixture"]], *enrolled)
        return [signals[name] for name in self.inputs]

    @torch.no_grad()
    def recognize(self, *signals, embeddings=None, names=None, with_evidence=False):
        """Recognise a batch.

        Args:
            signals: for each of the `inputs` a list of ``(num_samples,)`` arrays at the model's
                rate. A SER model also takes features ``(frames, size)`` of its front-end.
            embeddings: what `embeddings` returned, to embed an enrollment of several calls once.
            names: what errors call the mixtures.
            with_evidence: measure it without a calibration, too.

        Returns:
            list of `Recognition`, independent of what else is in the batch.

        Raises:
            UserError: what the model gives is not finite.
        """
        signals = dict(zip(self.inputs, signals, strict=True))
        mixtures = signals["mixture" if self.extracts else "speech"]
        names = names or [f"mixture {number} of the batch" for number in range(len(mixtures))]
        wanted = {"mixture", *self.recogniser.inputs}  # of enrollments mostly embeddings alone
        streams = self._pad({name: signals[name] for name in self.inputs if name in wanted})
        if self.extracts:
            embedding = (embeddings or self.embeddings())(signals.get("enrollment"))
            mixture, lengths = streams["mixture"], streams["mixture_lengths"]
            estimates = self.model.tse_model.extract_embedded(mixture, lengths, embedding)
            streams |= {"speech": estimates, "speech_lengths": lengths}
            logits = self.recogniser.logits(**of_streams(streams, self.recogniser.inputs))
        else:
            streams = of_streams(streams, self.recogniser.inputs)
            logits, estimates = self.recogniser.recognize_and_enhance(**streams)
        rows = self._posteriors(logits, names)
        speech = suppressed = measured = present = [None] * len(rows)
        if estimates is not None:
            mixtures = [np.asarray(mixture, np.float32) for mixture in mixtures]
            found = estimates.cpu().numpy()
            estimates = [e[: len(m)] for e, m in zip(found, mixtures, strict=True)]
            pairs = [*zip(estimates, mixtures, strict=True)]
            level = self.sets_level
            speech = [rescale(*p, name, level) for p, name in zip(pairs, names, strict=True)]
            suppressed = [suppression(*p[::-1], self.rate, level) for p in pairs]
            if self.extracts and (with_evidence or self.calibration is not None):
                measured = self.measure(mixtures, estimates, embedding, signals.get("enrollment"))
            if self.extracts and self.calibration is not None:
                present = self.calibration.target_present(measured)
        return [
            Recognition(
                self.labels[int(np.argmax(row))],
                dict(zip(self.labels, row, strict=True)),
                speech=speech[index],
                rate=self.rate,
                over_suppressed=suppressed[index],
                calibrated=self.calibrated,
                target_present=present[index],
                evidence=measured[index],
            )
            for index, row in enumerate(rows)
        ]

    @torch.no_grad()
    def embed(self, speech):
        """Embed speech that is recognised as it is.

        Args:
            speech: list of ``(num_samples,)`` arrays at the model's rate.

        Returns:
            ``(B, size)`` float32, what the classifier of a recogniser of speech alone gets.
        """
        streams = self._pad({"speech": speech})
        return self.recogniser.embed(**of_streams(streams, ("speech",))).cpu().numpy()

    @torch.no_grad()
    def refine(self, *signals):
        """What a TRNet gives of a batch, as of `recognition.refine_set`; see `recognize`."""
        streams = self._pad(dict(zip(self.inputs, signals, strict=True)))
        refined = self.recogniser.refine(**of_streams(streams, self.recogniser.inputs))
        before, after = (part.cpu().numpy() for part in (refined.before, refined.after))
        return list(zip(before, after, refined.score.tolist(), strict=True))

    def measure(self, mixtures, estimates, embeddings, enrollments):
        """What speaks for the target being in mixtures: `evidence`, ``(B, len(FEATURES))``.

        Args:
            mixtures: list of ``(num_samples,)``. estimates: what is extracted of them, at the level
                of the network. embeddings: what `embeddings` gave, ``(B, D)``.
            enrollments: list of ``(num_samples,)``.
        """
        extractor, rate = self.model.tse_model, self.rate
        return evidence(extractor, self.voices, mixtures, estimates, enrollments, embeddings, rate)

    def embeddings(self):
        """`Embeddings` of a joint model, for calls of `recognize` that share enrollments."""
        return Embeddings(self.model.tse_model, self.rate)

    def classify(self, signals, name="the signal"):
        """Probabilities (list in the order of ``labels``) of the speech of one, not extracted.

        Silence before and after it is left out, as it is in recipes whose corpora have much of it
        (RAVDESS): it counts to a recogniser, and is no emotion.

        Args:
            signals: name of each input of the recogniser -> ``(num_samples,)`` at the model's rate.
            name: what an error calls them.

        Raises:
            UserError: what the model gives is not finite.
        """
        return self._classify(signals, self._sounding(signals["speech"]), name)

    @torch.no_grad()
    def _classify(self, signals, inside, name):
        streams = {
            k: [signals[k][inside] if STREAMS[k].aligned else signals[k]]
            for k in self.recogniser.inputs
        }
        return self._posteriors(self.recogniser.logits(**self._pad(streams)), [name])[0]

    def _sounding(self, speech):
        """Where speech is, without silence at its ends: a slice of its samples."""
        span = sound_span(speech, self.rate, _SILENCE_DB, _MARGIN_SECONDS)
        return slice(*(round(end * self.rate) for end in span))

    def _posteriors(self, logits, names):
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        rows = torch.softmax(logits.double() / temperature, -1).tolist()
        for row, name in zip(rows, names, strict=True):
            check_output(row, name)
        return rows

    def _pad(self, signals):
        """A batch of streams, with lengths, of lists of arrays."""
        device, batch = device_of(self.model), {}
        for name, arrays in signals.items():
            batch[name], batch[f"{name}_lengths"] = pad_signals(arrays, device)
        return batch

    def _prepare(self, name, given):
        return self.enroll(given) if name == "enrollment" else self.prepare(*given)

    def enroll(self, parts):
        """`preparation.enroll` at the model's rate."""
        return enroll(parts, self.rate)

    def prepare(self, samples, rate, name):
        """`preparation.prepare` to what `recognize` takes; a ``rate`` of None is the model's."""
        return prepare(samples, self.rate if rate is None else rate, name, self.rate)


def _are_several(enrollment):
    """Whether this is a list of arrays, and no array itself."""
    return (
        isinstance(enrollment, (list, tuple))
        and len(enrollment) > 0
        and all(isinstance(part, np.ndarray) and part.ndim for part in enrollment)
    )


def _build(config, path):
    """The untrained model of an experiment's configuration, joint or SER."""
    if is_joint(config, path):
        from espnet_tse_ser.models.build_joint import build_joint_model

        return build_joint_model(config, path)
    from espnet_tse_ser.models.build_ser import build_ser_model

    return build_ser_model(config, path)


def front_end_of(source, device="cpu"):
    """The `FrontEnd` of a joint model, or the one that ``source`` is.

    Args:
        source: as of `model_directory`.

    Raises:
        UserError: it is a recogniser, or cannot be loaded.
    """
    from espnet_tse_ser.frontends.loading import load_front_end

    with model_directory(source) as directory:
        if not has_recogniser(directory):
            return load_front_end(directory, device=device)
        joint = TSESER.from_pretrained(directory, device=device)
    if not joint.extracts:
        raise UserError(
            f"{source}: is a recogniser, which extracts nothing; give a front-end (stage 6) or a "
            "joint model"
        )
    return Extraction(joint.model.tse_model, joint.rate, device)
