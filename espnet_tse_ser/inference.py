"""Use a trained model: recognise emotions, with or without extraction before.

Three lines extract a target and recognise its emotion::

    from espnet_tse_ser.inference import TSESER
    model = TSESER.from_pretrained("exp/tse_ser_default/fold1")
    result = model(mixture, enrollment, rate=16000)  # .label .probabilities .speech .rate
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.checkpoints import (
    chosen_criterion,
    epoch_of,
    find_weights,
    get_rate,
    load_weights,
    read_config,
)
from espnet_tse_ser.data.amplitudes import check_amplitudes, check_not_silent, check_rate
from espnet_tse_ser.data.audio import mix_down, resample
from espnet_tse_ser.data.checks import MIN_SAMPLES
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.tse.extraction import (
    Embeddings,
    check_output,
    device_of,
    pad_signals,
    rescale,
)


@dataclass(frozen=True)
class Recognition:
    """What was recognised.

    ``label`` is the most probable emotion, ``probabilities`` a dict label -> probability,
    ``speech`` the extracted target ``(num_samples,)`` float32 (None without extraction) at
    ``rate`` Hz.
    """

    label: str
    probabilities: dict
    speech: np.ndarray | None
    rate: int


class TSESER:
    """A joint model (TSE-SER-ft), or a recogniser alone, in evaluation mode.

    Args:
        model: `ESPnetTSESERModel` or `ESPnetSERModel`. rate: sampling rate of the model in Hz.
        device: where to compute, e.g. ``cuda:0``. epoch: whose weights the model has, as a text.
    """

    def __init__(self, model, rate, device="cpu", epoch="n/a"):
        self.model, self.rate, self.epoch = model.to(device).eval(), rate, epoch
        self.labels = list(model.labels)
        self.extracts = hasattr(model, "tse_model")

    @classmethod
    def from_pretrained(cls, model_dir, weights=None, device="cpu"):
        """Load an experiment of stage 10 or 11, or an unpacked archive of stage 16.

        Raises:
            UserError: a file is missing or broken, the directory holds another kind of model, or
                the weights do not fit the configuration.
        """
        config = read_config(model_dir)
        path = Path(model_dir) / "config.yaml"
        rate = get_rate(config, "fs", path)
        model = _build(config, path)
        weights = weights or find_weights(model_dir, chosen_criterion(config, path))
        load_weights(model, Path(weights))
        return cls(model, rate, device, epoch_of(weights))

    def __call__(self, mixture, enrollment=None, rate=None):
        """Recognise one recording.

        Args:
            mixture: ``(num_samples,)`` or ``(num_samples, num_channels)`` float in [-1, 1];
                channels are averaged.
            enrollment: the same of the target alone; needed by a joint model only.
            rate: of both in Hz; default the model's. Both are resampled when it differs.

        Returns:
            `Recognition`.

        Raises:
            UserError: no enrollment, a signal as `prepare` refuses it, or a model whose output is
                not finite.
        """
        names = ["the mixture"]
        mixture = self.prepare(mixture, rate, *names)
        if not self.extracts:
            return self.recognize([mixture], names=names)[0]
        if enrollment is None:
            raise UserError("this model extracts the target and needs an enrollment of it")
        enrollment = self.prepare(enrollment, rate, "the enrollment")
        return self.recognize([mixture], [enrollment], names=names)[0]

    @torch.no_grad()
    def recognize(self, mixtures, enrollments=None, embeddings=None, names=None):
        """Recognise a batch.

        Args:
            mixtures, enrollments: lists of ``(num_samples,)`` arrays at the model's rate. A SER
            model also takes features ``(frames, size)`` of its front-end as ``mixtures``.
            embeddings: what `embeddings` returned, to embed an enrollment of several calls once.
            names: what errors call the mixtures.

        Returns:
            list of `Recognition`, independent of what else is in the batch.

        Raises:
            UserError: what the model gives is not finite.
        """
        names = names or [f"mixture {number} of the batch" for number in range(len(mixtures))]
        device = device_of(self.model)
        speech, lengths = pad_signals(mixtures, device)
        estimates = None
        if self.extracts:
            embedding = (embeddings or self.embeddings())(enrollments)
            estimates = self.model.tse_model.extract_embedded(speech, lengths, embedding)
            speech = estimates
        results = []
        for index, row in enumerate(self._posteriors(speech, lengths, names)):
            extracted = None
            if self.extracts:
                estimate = estimates[index, : lengths[index]].cpu().numpy()
                extracted = rescale(estimate, np.asarray(mixtures[index], np.float32), names[index])
            results.append(
                Recognition(
                    self.labels[int(np.argmax(row))],
                    dict(zip(self.labels, row, strict=True)),
                    extracted,
                    self.rate,
                )
            )
        return results

    def embeddings(self):
        """`Embeddings` of a joint model, for calls of `recognize` that share enrollments."""
        return Embeddings(self.model.tse_model, self.rate)

    @torch.no_grad()
    def classify(self, speech, name="the signal"):
        """Probabilities (list in the order of ``labels``) of the speech of one, not extracted.

        Args:
            speech: ``(num_samples,)`` at the model's rate. name: what an error calls it.

        Raises:
            UserError: what the model gives is not finite.
        """
        return self._posteriors(*pad_signals([speech], device_of(self.model)), [name])[0]

    def _posteriors(self, speech, lengths, names):
        recogniser = self.model.ser_model if self.extracts else self.model
        rows = torch.softmax(recogniser.logits(speech, lengths).double(), -1).tolist()
        for row, name in zip(rows, names, strict=True):
            check_output(row, name)
        return rows

    def prepare(self, samples, rate, name):
        """Mix down and resample one signal to what `recognize` takes.

        Args:
            samples: ``(num_samples,)`` or ``(num_samples, num_channels)`` float, full scale is 1.
            rate: in Hz; None is the model's. name: what an error calls the signal.

        Raises:
            UserError: the signal is empty, silent, too short or no array of this kind, has values
                that no recording has, or channels that cancel each other; the rate is none.
        """
        rate = self.rate if rate is None else check_rate(rate, name)
        samples = _as_signal(samples, name)
        check_amplitudes(samples, name)
        # Before the resampler, which goes on with zeros: an offset would be a step to them.
        samples = (samples - samples.mean(axis=0, dtype=np.float64)).astype(np.float32)
        mono = resample(mix_down(samples, name), rate, self.rate)
        if len(mono) < MIN_SAMPLES:
            raise UserError(
                f"{name}: is too short: {len(mono) / self.rate:.3f} s, at least "
                f"{MIN_SAMPLES / self.rate:.3f} s are needed; record more"
            )
        check_not_silent(mono, name)
        return mono


def _as_signal(samples, name):
    """``samples`` as an array of floats ``(num_samples,)`` or ``(num_samples, num_channels)``."""
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: is no array of samples ({error})") from None
    if samples.size == 0:
        raise UserError(f"{name}: holds no samples")
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise UserError(
            f"{name}: must be floats (num_samples,) or (num_samples, num_channels), got "
            f"{samples.dtype} {samples.shape}; integers are to be divided by the largest of their "
            "type"
        )
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise UserError(
            f"{name}: has {samples.shape[1]} channels of {samples.shape[0]} samples, as it is "
            "read: (num_samples, num_channels); transpose it"
        )
    return samples


def _build(config, path):
    """The untrained model of an experiment's configuration, joint or SER."""
    if config.get("tse") and config.get("ser"):
        from espnet_tse_ser.models.build import build_joint_model

        return build_joint_model(config, path)
    if "labels" in config:
        from espnet_tse_ser.ser.build import build_ser_model

        return build_ser_model(config, path)
    raise UserError(
        f"{path}: is neither a joint nor a SER model; give a directory of stage 11 or 10, e.g. "
        "exp/tse_ser_default/fold1"
    )
