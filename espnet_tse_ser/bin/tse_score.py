"""Stage 8: SI-SDR, STOI and wrong speakers of extracted speech, one line an utterance."""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.numbers import COUNT, RATE
from espnet_tse_ser.progress import log_to_stderr, map_progress

logger = logging.getLogger(__name__)

_READ = ("wav.scp", "spk1.scp", "spk2.scp", "protocol.tsv")


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
    from espnet_tse_ser.data.outputs import check_no_input
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.metrics.tables import TSE_COLUMNS

    tables = [Path(d) / name for d in (args.data_dir, args.denoised_dir) for name in _READ]
    check_no_input(args.output, tables, "--output")
    entries = _entries(Path(args.data_dir), Path(args.denoised_dir))
    logger.info("scoring %d utterances of %s", len(entries), args.denoised_dir)
    score = partial(_score, fs=args.fs)
    write_tsv(args.output, map_progress(score, entries, "score", args.nj), TSE_COLUMNS)
    logger.info("wrote %s", args.output)


def _entries(data_dir, denoised_dir):
    """What to score: a list of dicts with the row's descriptions and the paths of its signals."""
    from espnet_tse_ser.data.kaldi_dir import read_table
    from espnet_tse_ser.data.mixture_dir import find_interferers
    from espnet_tse_ser.files import read_tsv
    from espnet_tse_ser.metrics.fields import index_rows

    protocol_path = data_dir / "protocol.tsv"
    columns = ("mixture", "fold", "gender_state", "snr_db")
    protocol = index_rows(protocol_path, read_tsv(protocol_path, columns), "mixture")
    paths = (data_dir / "wav.scp", denoised_dir / "wav.scp", data_dir / "spk1.scp")
    tables = [read_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        different = table.keys() ^ protocol.keys()
        if different:
            raise UserError(
                f"{path}: its ids and those of {protocol_path} differ, e.g. {min(different)}; "
                "run the stage that writes it again"
            )
    mixtures, estimates, targets = tables
    interferers = find_interferers(data_dir, sorted(protocol))
    return [
        {
            "id": uid,
            **{column: protocol[uid][column] for column in columns[1:]},
            "mixture": mixtures[uid],
            "estimate": estimates[uid],
            "target": targets[uid],
            "interferers": interferers[uid],
        }
        for uid in sorted(protocol)
    ]


def _score(entry, fs):
    """One row of the table (module level, so that it can be sent to a process)."""
    from espnet_tse_ser.data.audio import read_audio, read_mono
    from espnet_tse_ser.metrics.signal import signal_scores

    target = read_mono(entry["target"], fs)
    estimate, rate = read_audio(
        entry["estimate"]
    )  # it may be silent: that is a score, not an error
    if rate != fs or estimate.shape != (len(target), 1):
        raise UserError(
            f"{entry['estimate']}: {estimate.shape[0]} samples, {estimate.shape[1]} channel(s), "
            f"{rate} Hz, but its target has {len(target)} samples, 1 channel, {fs} Hz; delete it "
            "and run stage 7 again"
        )
    estimate = estimate[:, 0]
    others = [read_mono(path, fs) for path in (entry["mixture"], *entry["interferers"])]
    for path, signal in zip((entry["mixture"], *entry["interferers"]), others, strict=True):
        if len(signal) != len(target):
            raise UserError(
                f"{path}: {len(signal)} samples, but the target in it has {len(target)}; delete it "
                "and run stage 4 again"
            )
    mixture, *interferers = others
    return {
        **{column: entry[column] for column in ("id", "fold", "gender_state", "snr_db")},
        **signal_scores(target, estimate, mixture, interferers, fs),
    }


if __name__ == "__main__":
    sys.exit(run(main))
