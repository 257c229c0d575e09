"""Stage 8: SI-SDR, STOI and wrong speakers of extracted speech, one line an utterance."""

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


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="mixture directory (stage 4)")
    parser.add_argument("--denoised_dir", required=True, help="extracted speech (stage 7)")
    parser.add_argument("--output", required=True, help="table to write (score_utt.tsv)")
    parser.add_argument(
        "--fs", type=RATE.option, default=16000, help="sampling rate of all audio in Hz"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of processes")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.metrics.tables import TSE_COLUMNS

    tables = [Path(d) / name for d in (args.data_dir, args.denoised_dir) for name in _READ]
    check_no_input(args.output, tables, "--output")
    _open.cache_clear()
    ids = sorted(_open(args.data_dir, args.denoised_dir, args.fs)[0])
    logger.info("scoring %d utterances of %s", len(ids), args.denoised_dir)
    score = partial(_score, args.data_dir, args.denoised_dir, args.fs)
    write_tsv(args.output, map_progress(score, ids, "score", args.nj), TSE_COLUMNS)
    logger.info("wrote %s", args.output)


@lru_cache(maxsize=1)  # once in each process
def _open(data_dir, denoised_dir, fs):
    """Of what is scored the descriptions by id, the `MixtureDir`, and the extracted files by id."""
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.files import read_tsv
    from espnet_tse_ser.metrics.fields import index_rows
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir

    table = Path(data_dir) / "mixtures.tsv"
    rows = index_rows(table, read_tsv(table, ("mixture", *_DESCRIBED)), "mixture")
    extracted = Path(denoised_dir) / "wav.scp"
    for path in (Path(data_dir) / "wav.scp", extracted, Path(data_dir) / "spk1.scp"):
        different = read_table(path).keys() ^ rows.keys()
        if different:
            raise UserError(
                f"{path}: its ids and those of {table} differ, e.g. {min(different)}; "
                "run the stage that writes it again"
            )
    return rows, MixtureDir(data_dir, sorted(rows), fs, scored=True), read_table(extracted)


def _score(data_dir, denoised_dir, fs, utt):
    """One row of the table (module level, so that it can be sent to a process)."""
    from espnet_tse_ser.audio.reading import read_audio
    from espnet_tse_ser.inference.scoring import score

    rows, data, extracted = _open(data_dir, denoised_dir, fs)
    # It may be silent: that is a score, not an error.
    estimate, rate = read_audio(extracted[utt])
    if rate != fs or estimate.shape != (data.lengths[utt], 1):
        raise UserError(
            f"{extracted[utt]}: {estimate.shape[0]} samples, {estimate.shape[1]} channel(s), "
            f"{rate} Hz, but its target has {data.lengths[utt]} samples, 1 channel, {fs} Hz; "
            "delete it and run stage 7 again"
        )
    described = {column: rows[utt][column] for column in _DESCRIBED}
    return {"id": utt} | described | score(data, utt, estimate[:, 0])


if __name__ == "__main__":
    sys.exit(run(main))
