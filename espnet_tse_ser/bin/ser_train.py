"""Stage 10: train the emotion recogniser of one condition and fold."""

import argparse
import sys
from pathlib import Path

from espnet_tse_ser.errors import REQUEUE_HELP, UserError, run
from espnet_tse_ser.recognise.pretrained import add_encoder_option, with_encoder
from espnet_tse_ser.systems.system import CONDITIONS
from espnet_tse_ser.values.numbers import SEED


def get_parser():
    """Own options; all further ones go to ESPnet."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,  # ESPnet has options of its own
        description=__doc__,
        epilog="Every further option is one of ESPnet's or of SERTask, e.g. --max_epoch 100 or "
        "--ngpu 1. The threads are those of OMP_NUM_THREADS. " + REQUEUE_HELP,
    )
    parser.add_argument("--config", required=True, help="YAML of the model and the training")
    parser.add_argument("--scp", required=True, help="audio of the condition, all folds")
    parser.add_argument(
        "--condition", choices=CONDITIONS, help="what that is; recorded, so that infer can warn"
    )
    parser.add_argument(
        "--data_dir", required=True, help="mixture directory: utt2emo, utt2num_samples, streams"
    )
    parser.add_argument("--split", required=True, help="directory with train.lst and dev.lst")
    parser.add_argument(
        "--feats", help="features of the audio (stage 9), to train without reading it"
    )
    parser.add_argument(
        "--embeddings",
        help="table of a teacher's vectors, for a model that is trained towards them (ser_embed)",
    )
    add_encoder_option(parser)
    parser.add_argument("--stats", help="feats_stats.npz of the fold (stage 9), for global_mvn")
    parser.add_argument("--output_dir", required=True, help="experiment directory, to be resumed")
    parser.add_argument(
        "--seed", type=SEED.option, default=0, help="seed of weights, order and masks"
    )
    return parser


def main(argv=None):
    """Write the lists of the fold to ``output_dir/data`` and train."""
    args, further = get_parser().parse_known_args(argv)
    from espnet_tse_ser.tasks.options import parse_task_options
    from espnet_tse_ser.tasks.ser import SERTask
    from espnet_tse_ser.training.distributed import is_first_process

    given = {"output_dir": args.output_dir, "seed": args.seed}
    parts = {"train": f"{args.output_dir}/data/train", "valid": f"{args.output_dir}/data/dev"}
    for phase, data in parts.items():
        given[f"{phase}_data_path_and_name_and_type"] = [(f"{data}/utt2emo", "emotion", "text")]
        given[f"{phase}_shape_file"] = [f"{data}/utt2num_samples"]
    options = parse_task_options(SERTask, ["--config", args.config, *further], **given)
    if options.normalize is not None:
        if not args.stats:
            raise UserError(f"{args.config}: normalize needs --stats; run stage 9")
        options.stats_file = args.stats
    options.condition = args.condition
    options.frontend_conf = with_encoder(vars(options), args.encoder, args.config)
    tables = _find_tables(args, options)
    if args.feats is not None:
        _check_feats(args, options, tables)
        options.feats_dir = args.feats
    for phase, data in parts.items():
        lists = vars(options)[f"{phase}_data_path_and_name_and_type"]
        for name in tables:
            file = "feats.scp" if args.feats and name == "speech" else f"{name}.scp"
            lists.append((f"{data}/{file}", name, "text"))
    _write_lists(args, tables, options, is_first_process(options))
    SERTask.main(args=options)


def _find_tables(args, options):
    """Name of each stream of the model -> the file that lists it."""
    from espnet_tse_ser.models.build_ser import get_class
    from espnet_tse_ser.training.streams import find_table, streams_of
    from espnet_tse_ser.training.teacher import check_teacher

    where = f"{args.config}: model: {options.model}"
    given = {"speech": args.scp, "embedding": args.embeddings}
    names = streams_of(get_class("model", options.model), where)
    if args.embeddings is not None:
        if "embedding" not in names:
            raise UserError(
                f"{where}: is not trained towards a teacher's embeddings; leave --embeddings (a "
                "system's teacher) out, or take a model that is, such as trnet"
            )
        check_teacher(None, args.split, args.embeddings)
    return {name: find_table(name, args.data_dir, given, where) for name in names}


def _check_feats(args, options, tables):
    from espnet_tse_ser.recognise.frozen import check_frozen

    check_frozen(vars(options), args.config)
    if len(tables) > 1:
        raise UserError(
            f"{args.config}: model: {options.model} gets {', '.join(tables)}, and features of "
            "speech alone are no input of it; do without --feats (--feats_dtype none in a recipe)"
        )


def _write_lists(args, tables, options, write):
    """Check the tables of train and dev, and ``write`` them.

    With ``one_per_target`` the emotions and lengths of train are those of targets. With ``--feats``
    also feats.scp, of features that must be those of the audio. They have a
    directory of their own, because ESPnet would group batches by the utt2category that lies beside
    the mixtures.

    Args:
        tables: name of each stream -> the file that lists it. options: of the task.
    """
    from espnet_tse_ser.audio.id_list import read_ids, select
    from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
    from espnet_tse_ser.audio.signals import read_lengths
    from espnet_tse_ser.training.preprocessor import check_emotions

    data_dir = Path(args.data_dir)
    paths = {f"{name}.scp": path for name, path in tables.items()}
    paths |= {name: data_dir / name for name in ("utt2emo", "utt2num_samples")}
    tables = {name: read_table(path) for name, path in paths.items()}
    if args.feats is not None:
        from espnet_tse_ser.recognise.feature_cache import FeatureCache

        cache = FeatureCache(args.feats)
    parts = {}
    for part in ("train", "dev"):
        ids_file = Path(args.split) / f"{part}.lst"
        ids = read_ids(ids_file)
        chosen = {name: select(tables[name], ids, path) for name, path in paths.items()}
        if args.feats is not None:
            cache.check(chosen["speech.scp"])
            chosen["feats.scp"] = {uid: cache.place(uid) for uid in ids}
            for uid, length in read_lengths(paths["utt2num_samples"], ids).items():
                if length != cache.entries[uid].samples:
                    raise UserError(
                        f"{paths['utt2num_samples']}: '{uid}': says {length} samples, but its "
                        f"audio ({chosen['speech.scp'][uid]}) has {cache.entries[uid].samples}; "
                        "correct it, or run the stage that writes it again"
                    )
        check_emotions(chosen["utt2emo"], options.labels, ids_file, part == "train")
        if options.one_per_target and part == "train":
            chosen |= _by_target(args, ids, chosen)
        parts[part] = chosen
    for part, chosen in parts.items() if write else ():
        (Path(args.output_dir) / "data" / part / "utt2target").unlink(missing_ok=True)
        for name, table in chosen.items():
            write_table(Path(args.output_dir) / "data" / part / name, table)


def _by_target(args, ids, chosen):
    """The tables of a training whose epochs have one mixture of each target."""
    from espnet_tse_ser.audio.id_list import select
    from espnet_tse_ser.mixtures.table import read_mixtures

    path = Path(args.data_dir) / "mixtures.tsv"
    target_of = select({m.mixture: m.target for m in read_mixtures(path)}, ids, path)
    tables = {"utt2target": target_of}
    for name in ("utt2emo", "utt2num_samples"):
        tables[name] = {}
        for utt, target in target_of.items():
            value = tables[name].setdefault(target, chosen[name][utt])
            if value != chosen[name][utt]:
                raise UserError(
                    f"{Path(args.data_dir) / name}: '{utt}' has {chosen[name][utt]}, but another "
                    f"mixture of its target '{target}' has {value}; run stage 4 again"
                )
    return tables


if __name__ == "__main__":
    sys.exit(run(main))
