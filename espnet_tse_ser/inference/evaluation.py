"""Trained systems on mixtures that are made in memory, as every point of a sweep needs."""

from pathlib import Path

from espnet_tse_ser.audio.reading import as_stored
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recognition import recognize_set
from espnet_tse_ser.inference.scoring import score
from espnet_tse_ser.progress import progress
from espnet_tse_ser.training.batches import inference_batches
from espnet_tse_ser.training.checkpoints import find_weights

_INPUTS = {"clean": "ref", "noisy": "mix", "denoised": "denoised", "joint": "mix"}


def score_inputs(data):
    """id -> row with the scores that the mixtures of `MixturesInMemory` have by themselves."""
    scores = {utt: score(data, utt, data.audio("mix", utt), with_stoi=False) for utt in data.ids}
    return {utt: _as_read({"id": utt} | row) for utt, row in scores.items()}


def extract_set(front_end, data, batch_size):
    """Extract the targets of `MixturesInMemory`, which then has them as "denoised".

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
            rows[utt] = _as_read({"id": utt} | score(data, utt, denoised, with_stoi=False))
    return rows


def recognize_rows(data, models, run, batch_size, criterion=None, device="cpu"):
    """Recognise `MixturesInMemory` with trained systems.

    Args:
        data: `MixturesInMemory` of one fold, with "denoised" if any system is to recognise it.
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
            model = TSESER.from_pretrained(directory, weights, device, calibrated=False)
        signals = data.of(_INPUTS[row.system.test])
        rows = recognize_set(model, signals, batch_size, label=row.name, with_stoi=False)
        yield row, directory, {r["id"]: _as_read(r | {"epoch": model.epoch}) for r in rows}


def _as_read(row):
    """A row as if it had been written to a table and read."""
    return {name: str(value) for name, value in row.items()}
