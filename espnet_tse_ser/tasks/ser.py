"""Speech emotion recognition as an ESPnet task."""

from pathlib import Path
from typing import Optional

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.types import str_or_none

from espnet_tse_ser.audio.kaldi_dir import read_optional_table, read_table
from espnet_tse_ser.audio.signals import read_lengths
from espnet_tse_ser.corpora import LABELS
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_ser import (
    KINDS,
    build_ser_model,
    check_ser_config,
    get_class,
    names_of,
)
from espnet_tse_ser.models.espnet_ser_model import BALANCED
from espnet_tse_ser.own_classes import OwnClass, checksums, own_classes
from espnet_tse_ser.tasks.checked import CheckedTask
from espnet_tse_ser.tasks.options import set_emotion_defaults
from espnet_tse_ser.training import schedulers
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.distributed import DistributedTask
from espnet_tse_ser.training.prefetching import PrefetchingIterFactory
from espnet_tse_ser.training.preprocessor import EmotionPreprocessor
from espnet_tse_ser.training.streams import STREAMS, OneOfTarget, open_stream, streams_of
from espnet_tse_ser.training.trainer import EmotionTrainer
from espnet_tse_ser.values.kinds import Choice, Either, Flag, Id, Maybe, Several
from espnet_tse_ser.values.numbers import RATE, UTTERANCE_SECONDS

schedulers.register()


_DEFAULTS = {"frontend": "logmel", "encoder": "shift_cnn", "pooling": "stats", "model": "emotion"}


def _choices(kind):
    classes = {name: get_class(kind, name) for name in names_of(kind)}
    return ClassChoices(kind, classes, default=_DEFAULTS.get(kind), optional=kind not in _DEFAULTS)


def _kind_of_choice(kind):
    either = Either(Choice(*names_of(kind)), OwnClass())
    return either if kind in _DEFAULTS else Maybe(either)


class SERTask(CheckedTask, DistributedTask, AbsTask):
    """ESPnet's task interface for `ESPnetSERModel`.

    ``config.yaml`` alone rebuilds the model: what training reads from other files (feature
    statistics, SSL weights) is in the checkpoint, and their paths are not in ``config.yaml``.
    """

    num_optimizers = 1
    class_choices_list = [_choices(kind) for kind in KINDS]
    trainer = EmotionTrainer
    kinds = {kind: _kind_of_choice(kind) for kind in KINDS} | {
        "iterator_type": Choice("sequence"),
        "valid_iterator_type": Maybe(Choice("sequence")),
        "labels": Several(Id(), 2),
        "max_seconds": Maybe(UTTERANCE_SECONDS),
        "one_per_target": Flag(),
        "fs": RATE,
    }

    @classmethod
    def add_task_arguments(cls, parser):
        group = parser.add_argument_group("Task related")
        group.add_argument("--labels", nargs="+", default=list(LABELS), help="Classes, in order")
        group.add_argument(
            "--stats_file",
            type=str_or_none,
            default=None,
            help="feats_stats.npz of the training set, with --normalize global_mvn",
        )
        group.add_argument(
            "--feats_dir",
            type=str_or_none,
            default=None,
            help="Directory of stage 9 whose features are given as speech, in place of audio",
        )
        group.add_argument(
            "--max_seconds",
            default=None,
            help="Crop longer training utterances at random; None takes them whole. With feats_dir "
            "as many frames, which have seen the whole utterance. Give --frontend_conf "
            "fixed_seconds=7.5 instead for one length of all, always",
        )
        group.add_argument(
            "--one_per_target",
            default=False,
            help="An epoch of training has one mixture of each target, drawn anew, where a table "
            "has several of them (at every level)",
        )
        group.add_argument("--fs", default=16000, help="Sampling rate of the data in Hz")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        set_emotion_defaults(parser)

    @classmethod
    def check_options(cls, options, where):
        options.modules = checksums(own_classes(vars(options), KINDS), where)
        vars(options).update(check_ser_config(vars(options), where))
        streams_of(get_class("model", options.model), f"{where('model')}: {options.model}")
        if options.max_seconds is not None and options.frontend_conf.get("fixed_seconds"):
            raise UserError(
                f"{where('max_seconds')} (a random crop in training) and fixed_seconds of "
                "frontend_conf (the beginning, always) exclude each other; drop one of them"
            )

    @classmethod
    def measures(cls, options):
        train = get_class("model", options.model).measures
        return {"train": train, "valid": train | dict.fromkeys(("wa", "ua", "macro_f1"), "max")}

    @classmethod
    def build_collate_fn(cls, args, train):
        return pad_collate

    @classmethod
    def build_preprocess_fn(cls, args, train) -> Optional[EmotionPreprocessor]:
        max_samples = None if args.max_seconds is None else round(args.max_seconds * args.fs)
        max_frames = None
        if max_samples is not None and args.frontend == "ssl":
            from espnet_tse_ser.recognise.ssl_frontend import count_frames

            max_frames = count_frames(max_samples, **args.frontend_conf)
        return EmotionPreprocessor(args.labels, max_samples, train, max_frames, args.seed)

    @classmethod
    def build_dataset(cls, args, iter_options, keys_to_load=None):
        """ESPnet's, but for the streams: what its readers of audio and archives take can run code.

        They only read the tables, wav.scp, feats.scp, ..., as text. The shape file is
        utt2num_samples; it has targets where utt2target lies beside it.
        """
        for path, _, kind in iter_options.data_path_and_name_and_type:
            if kind != "text":
                raise UserError(f"{path}: data of type '{kind}' cannot be read here; give text")
        samples = iter_options.shape_files[0]
        target_of = read_optional_table(Path(samples).parent / "utt2target")
        if target_of is not None:
            keys_to_load = None  # they are targets, which the tables of streams have not
        dataset = super().build_dataset(args, iter_options, keys_to_load)
        for path, name, _ in iter_options.data_path_and_name_and_type:
            if name in STREAMS:
                table = read_table(path)
                lengths = read_lengths(samples, table if target_of is None else target_of.values())
                if target_of is not None:
                    lengths = {utt: lengths[target] for utt, target in target_of.items()}
                stream = open_stream(name, path, table, args.fs, lengths)
                if target_of is not None:
                    stream = OneOfTarget(stream, target_of, dataset.preprocess)
                dataset.loader_dict[name] = stream
        return dataset

    @classmethod
    def build_sequence_iter_factory(cls, args, iter_options, mode):
        factory = super().build_sequence_iter_factory(args, iter_options, mode)
        return PrefetchingIterFactory(factory)

    @classmethod
    def required_data_names(cls, train=True, inference=False):
        return () if inference else ("emotion",)

    @classmethod
    def optional_data_names(cls, train=True, inference=False):
        return tuple(STREAMS)

    @classmethod
    def build_model(cls, args):
        model = build_ser_model(vars(args), args.config or "the options")
        if args.stats_file is not None:
            if model.normalize is None:
                raise UserError("--stats_file needs --normalize global_mvn; drop one of them")
            model.normalize.read_stats(args.stats_file)
        if args.model_conf.get("class_weight") == BALANCED and args.train_shape_file:
            (emotions,) = (
                read_table(path).values()
                for path, name, _ in args.train_data_path_and_name_and_type
                if name == "emotion"
            )
            model.balance([list(emotions).count(label) for label in args.labels])
        if args.feats_dir is not None:
            from espnet_tse_ser.recognise.feature_cache import FeatureCache

            FeatureCache(args.feats_dir).check_frontend(model.frontend)
        # ESPnet writes config.yaml after this, from the same args.
        args.stats_file = args.feats_dir = None
        if args.frontend == "ssl":
            args.frontend_conf = dict(args.frontend_conf) | {"weights": None}
        return model
