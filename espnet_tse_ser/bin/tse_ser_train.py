"""Stage 11: fine-tune extraction and emotion recognition jointly, one fold."""

import argparse
import sys

from espnet_tse_ser.errors import REQUEUE_HELP, UserError, run
from espnet_tse_ser.values.numbers import SEED

_GIVEN = ("data_dir", "output_dir", "seed", "sources", "split", "targets")


def get_parser():
    """Own options; all further ones go to ESPnet."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,  # ESPnet has options of its own
        description=__doc__,
        epilog="Every further option is one of ESPnet's or of TSESERTask, e.g. --max_epoch 20. "
        + REQUEUE_HELP,
    )
    parser.add_argument("--config", required=True, help="YAML of the joint training")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument("--sources", help="formatted pool of talkers or noise, as in stage 2")
    parser.add_argument("--split", required=True, help="directory with train.lst and dev.lst")
    parser.add_argument("--tse_dir", required=True, help="pretrained TSE experiment (stage 6)")
    parser.add_argument("--ser_dir", help="SER experiment of the same fold to start from")
    parser.add_argument("--ser_config", help="without --ser_dir: YAML of a SER part from scratch")
    parser.add_argument("--labels", nargs="+", help="with --ser_config: the classes, in order")
    parser.add_argument("--stats", help="with --ser_config: feats_stats.npz of the fold (stage 9)")
    parser.add_argument("--output_dir", required=True, help="experiment directory, to be resumed")
    parser.add_argument(
        "--seed", type=SEED.option, default=0, help="seed of weights, mixtures and order"
    )
    return parser


def main(argv=None):
    """Train."""
    args, further = get_parser().parse_known_args(argv)
    if (args.ser_dir is None) == (args.ser_config is None):
        raise UserError("give either --ser_dir (start from it) or --ser_config (from scratch)")
    from espnet_tse_ser.files import read_yaml
    from espnet_tse_ser.frontends.model_files import files_of, recorded_files
    from espnet_tse_ser.models.build_ser import check_ser_config
    from espnet_tse_ser.models.build_tse import check_extraction_config
    from espnet_tse_ser.tasks.options import parse_task_options
    from espnet_tse_ser.tasks.ser import SERTask
    from espnet_tse_ser.tasks.tse_ser import TSESERTask
    from espnet_tse_ser.training.checkpoints import chosen_criterion, find_weights, get_rate

    recorded = recorded_files(args.tse_dir)
    if recorded is None:
        tse = _read(args.tse_dir, "extractor", "--tse_dir", "TSE experiment (stage 6)")
        tse_config = f"{args.tse_dir}/config.yaml"
        rate = get_rate(tse, "sample_rate", tse_config)
    else:
        if recorded.record.kind == "enh":
            raise UserError(
                f"--tse_dir {args.tse_dir}: stands for {recorded.record.source}, an enhancement "
                "model; a joint training starts with a TD-SpeakerBeam"
            )
        tse, tse_config = read_yaml(recorded.config), recorded.config
        rate = recorded.record.rate
    tse = check_extraction_config(tse, lambda key: f"{tse_config}: {key}")
    if args.ser_dir is not None:
        ser = _read(args.ser_dir, "pooling", "--ser_dir", "SER experiment (stage 10)")
        criterion = chosen_criterion(ser, f"{args.ser_dir}/config.yaml")
        ser = check_ser_config(ser, lambda key: f"{args.ser_dir}/config.yaml: {key}")
    else:
        command = ["--config", args.ser_config, "--output_dir", args.output_dir]
        command += ["--labels", *args.labels] if args.labels else []
        ser = check_ser_config(vars(parse_task_options(SERTask, command)), str)
    # The rest of it is of pretraining alone.
    voice = tse.pop("model_conf").get("speaker_encoder")
    if voice is not None:
        tse["model_conf"] = {"speaker_encoder": voice}
    options = parse_task_options(
        TSESERTask,
        ["--config", args.config, *further],
        tse_weights=str(files_of(args.tse_dir).weights),
        **{name: getattr(args, name) for name in _GIVEN},
        fs=rate,
        tse=tse,
        ser=ser,
    )
    if args.ser_dir is not None:
        options.ser_weights = str(find_weights(args.ser_dir, criterion))
    elif ser["normalize"] is not None and args.stats is None:
        raise UserError(f"{args.ser_config}: normalize needs --stats; run stage 9")
    options.stats_file = args.stats
    TSESERTask.main(args=options)


def _read(directory, key, option, kind):
    """Configuration of an experiment, which must be of the kind that has ``key``."""
    from espnet_tse_ser.training.checkpoints import read_config

    config = read_config(directory)
    if key not in config:
        raise UserError(f"{option} {directory}: its config.yaml is not that of a {kind}")
    return config


if __name__ == "__main__":
    sys.exit(run(main))
