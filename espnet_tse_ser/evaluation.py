"""Trained systems on mixtures that are made in memory, as every point of a sweep needs."""

import copy
from pathlib import Path

from espnet_tse_ser.checkpoints import find_weights
from espnet_tse_ser.data.amplitudes import check_not_silent
from espnet_tse_ser.data.audio import as_stored
from espnet_tse_ser.data.batches import inference_batches
from espnet_tse_ser.data.simulation import enrollment_audio, render
from espnet_tse_ser.inference import TSESER
from espnet_tse_ser.metrics.signal import signal_scores
from espnet_tse_ser.progress import progress
from espnet_tse_ser.recognition import recognize_set
from espnet_tse_ser.tse.extraction import extract

_INPUTS = {"clean": "ref", "noisy": "mix", "denoised": "denoised", "joint": "mix"}


class RenderedMixtures:
    """Mixtures in memory, sample by sample those that stage 4 would write.

    Args:
        mixtures: list of `Mixture`. targets, interferers: `Pool`.
    """

    def __init__(self, mixtures, targets, interferers):
        self.fs = targets.fs
        self.mixtures = {m.mixture: m for m in mixtures}
        self.ids = list(self.mixtures)
        self.signals = {}
        for utt, mixture in self.mixtures.items():
            sources = render(mixture, targets, interferers)
            for name, signal in sources.items():
                check_not_silent(signal, f"mixture '{utt}': {name}")
            signals = {name: as_stored(signal, self.fs) for name, signal in sources.items()}
            signals["ref"] = signals.pop("spk1")
            self.signals[utt] = signals | {"enroll": enrollment_audio(mixture, targets)}
        self.input = "mix"

    def of(self, kind):
        """The same with "ref" (the clean targets) or "denoised" in place of the mixtures."""
        other = copy.copy(self)
        other.input = kind
        return other

    @property
    def lengths(self):
        """dict id -> samples of the mixture."""
        return {utt: len(signals["mix"]) for utt, signals in self.signals.items()}

    def emotion(self, utt):
        """Label of the target."""
        return self.mixtures[utt].emotion

    def audio(self, kind, utt):
        """Samples ``(num_samples,)`` of "mix" (what is recognised), "ref" or "enroll"."""
        return self.signals[utt][self.input if kind == "mix" else kind]

    def stream(self, name, utt):
        """What a stream (data/streams.py) has of ``utt``: ``(num_samples,)``."""
        kinds = {"speech": self.input, "mixture": "mix", "clean": "ref", "enrollment": "enroll"}
        return self.signals[utt][kinds[name]]

    def input_scores(self):
        """id -> row with the scores that the mixtures have, see `score`."""
        scores = {utt: self.score(utt, signals["mix"]) for utt, signals in self.signals.items()}
        return {utt: _as_read({"id": utt} | row) for utt, row in scores.items()}

    def score(self, utt, estimate):
        """`signal_scores` of what was extracted of ``utt``, but for STOI, which no sweep shows."""
        signals = self.signals[utt]
        interferers = [s for name, s in signals.items() if name.startswith("spk")]
        return signal_scores(
            signals["ref"], estimate, signals["mix"], interferers, self.fs, with_stoi=False
        )


def extract_set(front_end, data, batch_size):
    """Extract the targets of `RenderedMixtures`, which then has them as "denoised".

    Args:
        front_end: `FrontEnd`.

    Returns:
        id -> row of the table of stage 8.
    """
    rows = {}
    inputs = ("mix", "enroll") if front_end.needs_enrollment else ("mix",)
    for batch in progress(inference_batches(data.lengths, batch_size, data.fs), "extract"):
        signals = [[data.audio(kind, utt) for utt in batch] for kind in inputs]
        estimates = extract(front_end, *signals, names=batch)
        for utt, estimate in zip(batch, estimates, strict=True):
            denoised = data.signals[utt]["denoised"] = as_stored(estimate, data.fs)
            rows[utt] = _as_read({"id": utt} | data.score(utt, denoised))
    return rows


def recognize_rows(data, models, run, batch_size, criterion=None, device="cpu"):
    """Recognise `RenderedMixtures` with trained systems.

    Args:
        data: `RenderedMixtures` of one fold, with "denoised" if any system is to recognise it.
        models: list of (`Row`, directory of its runs); each model is loaded once.
        run: name of the run, as ``fold1``.
        criterion: the epoch to take, e.g. ``valid.ua``; None: that of each model's configuration.
        device: where to compute.

    Yields:
        the `Row`, the directory of its model, and id -> row of ``hyp.tsv``.
    """
    directory, model = None, None
    for row, runs in sorted(models, key=lambda pair: str(pair[1])):
        if directory != Path(runs) / run:
            directory = Path(runs) / run
            weights = None if criterion is None else find_weights(directory, criterion)
            model = TSESER.from_pretrained(directory, weights, device)
        signals = data.of(_INPUTS[row.system.test])
        rows = recognize_set(model, signals, batch_size, label=row.name)
        yield row, directory, {r["id"]: _as_read(r | {"epoch": model.epoch}) for r in rows}


def _as_read(row):
    """A row as if it had been written to a table and read."""
    return {name: str(value) for name, value in row.items()}
