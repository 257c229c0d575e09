"""Stages 8 and 13: SI-SDR, SSNR, STOI, PESQ and wrong speakers of extracted or enhanced speech."""

import argparse
import logging
import sys
from functools import lru_cache, partial
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr, map_progress
from espnet_tse_ser.values.numbers import COUNT, RATE

logger = logging.getLogger(__name__)

_READ = ("wav.scp", "spk1.scp", "spk2.scp", "mixtures.tsv")
_DESCRIBED = ("fold", "gender_state", "snr_db")
_GROUPED = ("speaker", "level")  # for the means


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="mixture directory (stage 4)")
    parser.add_argument(
        "--denoised_dir",
        nargs="+",
        required=True,
        help="extracted speech (stage 7), or that of a joint model, a directory for each fold",
    )
    parser.add_argument("--folds", help="folds to score, e.g. '1 2' (default: all)")
    parser.add_argument(
        "--output", required=True, help="table to write (score_utt.tsv); SIGNALS.md is put beside"
    )
    parser.add_argument("--pesq", action="store_true", help="measure PESQ too (package pesq)")
    parser.add_argument(
        "--fs", type=RATE.option, default=16000, help="sampling rate of all audio in Hz"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of processes")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.files import write_text, write_tsv
    from espnet_tse_ser.metrics.fields import QUALITY_COLUMNS
    from espnet_tse_ser.metrics.tables import TSE_COLUMNS
    from espnet_tse_ser.report.front_end import render, summarise

    tables = [Path(d) / name for d in (args.data_dir, *args.denoised_dir) for name in _READ]
    check_no_input(args.output, tables, "--output")
    _open.cache_clear()
    data = args.data_dir, tuple(args.denoised_dir), args.folds, args.fs
    ids = sorted(_open(*data)[0])
    name = " ".join(args.denoised_dir)
    logger.info("scoring %d utterances of %s", len(ids), name)
    score = partial(_score, data, args.pesq)
    rows = list(map_progress(score, ids, "score", args.nj))
    columns = (*TSE_COLUMNS, *QUALITY_COLUMNS)
    write_tsv(args.output, [{c: row[c] for c in columns} for row in rows], columns)
    summary = Path(args.output).parent / "SIGNALS.md"
    write_text(summary, render(summarise(rows), name))
    logger.info("wrote %s and %s", args.output, summary)


@lru_cache(maxsize=1)  # once in each process
def _open(data_dir, denoised_dirs, folds, fs):
    """Of what is scored the descriptions by id, the `MixtureDir`, and the extracted files by id."""
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.files import read_tsv
    from espnet_tse_ser.metrics.fields import index_rows
    from espnet_tse_ser.metrics.runs import chosen_folds
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir

    table = Path(data_dir) / "mixtures.tsv"
    rows = index_rows(table, read_tsv(table, ("mixture", "speaker", *_DESCRIBED)), "mixture")
    for path in (Path(data_dir) / "wav.scp", Path(data_dir) / "spk1.scp"):
        _check_ids(read_table(path), path, rows, table)
    chosen = chosen_folds(folds)
    if chosen is not None:
        rows = {uid: row for uid, row in rows.items() if row["fold"] in chosen}
        if not rows:
            raise UserError(f"--folds {folds}: {table} has no mixture of them; name folds of it")
    extracted = {}
    for directory in denoised_dirs:
        extracted |= read_table(Path(directory) / "wav.scp")
    listed = " ".join(str(Path(directory) / "wav.scp") for directory in denoised_dirs)
    _check_ids(extracted, listed, rows, table)
    return rows, MixtureDir(data_dir, sorted(rows), fs, scored=True), extracted


def _check_ids(ids, path, rows, table):
    if different := ids.keys() ^ rows.keys():
        raise UserError(
            f"{path}: its ids and those of {table} differ, e.g. {min(different)}; "
            "run the stage that writes it again"
        )


def _score(data, with_pesq, utt):
    """One row of the table (module level, so that it can be sent to a process)."""
    from espnet_tse_ser.audio.reading import read_audio
    from espnet_tse_ser.inference.scoring import score_front_end

    rows, mixtures, extracted = _open(*data)
    fs = data[-1]
    # It may be silent: that is a score, not an error.
    estimate, rate = read_audio(extracted[utt])
    if rate != fs or estimate.shape != (mixtures.lengths[utt], 1):
        raise UserError(
            f"{extracted[utt]}: {estimate.shape[0]} samples, {estimate.shape[1]} channel(s), "
            f"{rate} Hz, but its target has {mixtures.lengths[utt]} samples, 1 channel, {fs} Hz; "
            "delete it and run the stage that writes it again"
        )
    estimate = estimate[:, 0]
    described = {column: rows[utt].get(column, "") for column in (*_DESCRIBED, *_GROUPED)}
    return {"id": utt} | described | score_front_end(mixtures, utt, estimate, with_pesq)


if __name__ == "__main__":
    sys.exit(run(main))
