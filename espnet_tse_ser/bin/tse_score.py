"""Stage 8: SI-SDR, SSNR, STOI, PESQ and wrong speakers of what a front-end extracted."""

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
    parser.add_argument("--denoised_dir", required=True, help="extracted speech (stage 7)")
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

    tables = [Path(d) / name for d in (args.data_dir, args.denoised_dir) for name in _READ]
    check_no_input(args.output, tables, "--output")
    _open.cache_clear()
    ids = sorted(_open(args.data_dir, args.denoised_dir, args.fs)[0])
    logger.info("scoring %d utterances of %s", len(ids), args.denoised_dir)
    score = partial(_score, args.data_dir, args.denoised_dir, args.fs, args.pesq)
    rows = list(map_progress(score, ids, "score", args.nj))
    columns = (*TSE_COLUMNS, *QUALITY_COLUMNS)
    write_tsv(args.output, [{c: row[c] for c in columns} for row in rows], columns)
    summary = Path(args.output).parent / "SIGNALS.md"
    write_text(summary, render(summarise(rows), args.denoised_dir))
    logger.info("wrote %s and %s", args.output, summary)


@lru_cache(maxsize=1)  # once in each process
def _open(data_dir, denoised_dir, fs):
    """Of what is scored the descriptions by id, the `MixtureDir`, and the extracted files by id."""
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.files import read_tsv
    from espnet_tse_ser.metrics.fields import index_rows
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir

    table = Path(data_dir) / "mixtures.tsv"
    rows = index_rows(table, read_tsv(table, ("mixture", "speaker", *_DESCRIBED)), "mixture")
    extracted = Path(denoised_dir) / "wav.scp"
    for path in (Path(data_dir) / "wav.scp", extracted, Path(data_dir) / "spk1.scp"):
        different = read_table(path).keys() ^ rows.keys()
        if different:
            raise UserError(
                f"{path}: its ids and those of {table} differ, e.g. {min(different)}; "
                "run the stage that writes it again"
            )
    return rows, MixtureDir(data_dir, sorted(rows), fs, scored=True), read_table(extracted)


def _score(data_dir, denoised_dir, fs, with_pesq, utt):
    """One row of the table (module level, so that it can be sent to a process)."""
    from espnet_tse_ser.audio.reading import read_audio
    from espnet_tse_ser.inference.scoring import score_front_end

    rows, data, extracted = _open(data_dir, denoised_dir, fs)
    # It may be silent: that is a score, not an error.
    estimate, rate = read_audio(extracted[utt])
    if rate != fs or estimate.shape != (data.lengths[utt], 1):
        raise UserError(
            f"{extracted[utt]}: {estimate.shape[0]} samples, {estimate.shape[1]} channel(s), "
            f"{rate} Hz, but its target has {data.lengths[utt]} samples, 1 channel, {fs} Hz; "
            "delete it and run stage 7 again"
        )
    estimate = estimate[:, 0]
    described = {column: rows[utt].get(column, "") for column in (*_DESCRIBED, *_GROUPED)}
    return {"id": utt} | described | score_front_end(data, utt, estimate, with_pesq)


if __name__ == "__main__":
    sys.exit(run(main))
