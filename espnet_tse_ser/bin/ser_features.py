"""Stage 9: features of a frozen front-end, kept for every fold, seed and system; restartable."""

import argparse
import logging
import sys
import time

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.recognise.pretrained import add_encoder_option, with_encoder
from espnet_tse_ser.values.numbers import COUNT

logger = logging.getLogger(__name__)


def get_parser():
    """The options of the features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="configuration of the SER training")
    parser.add_argument("--scp", required=True, help="audio of one condition, all folds")
    add_encoder_option(parser)
    parser.add_argument("--output_dir", required=True, help="cache directory to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="float16 takes half the room and keeps 11 bits of each feature",
    )
    parser.add_argument(
        "--job", type=COUNT.option, default=1, help="which of the --nj jobs this is, from 1"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of jobs")
    parser.add_argument("--combine", action="store_true", help="write the index instead")
    add_options(parser)
    return parser


def main(argv=None):
    """Compute one job's features that are new or whose audio has changed, or combine."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    if not 1 <= args.job <= args.nj:
        raise UserError(f"--job {args.job} --nj {args.nj}: the job must lie in 1 to nj")
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.configuration import read_configuration
    from espnet_tse_ser.models.build_ser import build_frontend, check_ser_config
    from espnet_tse_ser.own_classes import checksums, own_classes
    from espnet_tse_ser.recognise.feature_cache import combine, compute
    from espnet_tse_ser.recognise.frozen import check_frozen
    from espnet_tse_ser.training.checkpoints import get_rate

    # Without the task, whose import takes longer than the jobs of a small set.
    given = read_configuration(args.config)
    where, config = given.where, {"frontend": "logmel"} | given
    fs = get_rate(config, "fs", args.config)
    config["modules"] = checksums(own_classes(config, ("frontend",)), where)
    config |= check_ser_config(config, where, ("frontend",))
    check_frozen(config, args.config)
    config["frontend_conf"] = with_encoder(config, args.encoder, args.config)
    frontend = build_frontend(config, args.config)
    wavs = read_table(args.scp)
    if args.combine:
        _report(args, fs, combine(args.output_dir, frontend, wavs, args.dtype))
        return
    wavs = dict(list(wavs.items())[args.job - 1 :: args.nj])
    frontend = frontend.to(set_up(args, args.nj))
    start, label = time.monotonic(), f"features {args.job}/{args.nj}"
    written = compute(args.output_dir, frontend, wavs, fs, args.dtype, label)
    logger.info(
        "%d computed, %d reused, in %.1f s%s",
        *(len(written), len(wavs) - len(written), time.monotonic() - start),
        _real_time(written, fs),
    )


def _report(args, fs, entries):
    size = sum(entry.end - entry.offset for entry in entries) / 1e6
    hours = sum(entry.samples for entry in entries) / fs / 3600
    logger.info(
        "%s: %d utterances, %.3g h, %.3g MB in %s, computed in %.3g s%s",
        *(args.output_dir, len(entries), hours, size, args.dtype),
        *(sum(entry.seconds for entry in entries), _real_time(entries, fs)),
    )


def _real_time(entries, fs):
    if not entries:
        return ""
    factor = sum(e.seconds for e in entries) * fs / sum(e.samples for e in entries)
    return f", real-time factor {factor:.3f}"


if __name__ == "__main__":
    sys.exit(run(main))
