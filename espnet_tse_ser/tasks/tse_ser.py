"""Joint TSE-SER training as an ESPnet task."""

import dataclasses
import functools
import logging

import numpy as np
from espnet2.tasks.abs_task import AbsTask
from espnet2.utils.types import str_or_none

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import TALKER
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.frontends.extraction import load_extraction_weights
from espnet_tse_ser.mixtures.checks import check_tested, report
from espnet_tse_ser.mixtures.emotional import EmotionMixtures, EmotionOptions
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.models.build_ser import get_class
from espnet_tse_ser.models.build_tse import check_absent_targets, criterion_names
from espnet_tse_ser.models.espnet_tse_ser_model import ESPnetTSESERModel
from espnet_tse_ser.tasks.checked import CheckedTask
from espnet_tse_ser.tasks.options import set_emotion_defaults
from espnet_tse_ser.training import schedulers
from espnet_tse_ser.training.checkpoints import load_weights
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.distributed import DistributedTask, part_of_process
from espnet_tse_ser.training.dynamic import MixingIterFactory, length_batches, mixing_options
from espnet_tse_ser.training.preprocessor import UNLABELLED, check_emotions, label_index
from espnet_tse_ser.training.trainer import EmotionTrainer
from espnet_tse_ser.values.kinds import Choice, Maybe, Only, check_options, options_of
from espnet_tse_ser.values.numbers import RATE

logger = logging.getLogger(__name__)
_SHARES = [name for name in options_of(EmotionOptions) if name.endswith("_share")]
schedulers.register()


class TSESERTask(CheckedTask, DistributedTask, AbsTask):
    """ESPnet's task interface for `ESPnetTSESERModel`; ``config.yaml`` alone rebuilds the model.

    Targets are taken whole. Training mixtures are drawn anew each epoch, from the targets and the
    sources of the fold's training side alone.
    """

    num_optimizers = 1
    class_choices_list = []
    trainer = EmotionTrainer
    kinds = {
        "fs": RATE,
        "iterator_type": Choice("task"),
        "num_iters_per_epoch": Only(None),
        "valid_iterator_type": Maybe(Choice("task")),
    }

    @classmethod
    def add_task_arguments(cls, parser):
        group = parser.add_argument_group("Task related")
        for name, text in (
            ("tse", "Configuration of the extraction part"),
            ("ser", "Configuration of the recognition part"),
            ("model_conf", "Loss weights and switches of ESPnetTSESERModel"),
            ("mixing_conf", "Dynamic mixing; see mixtures/emotional.py"),
        ):
            default = dataclasses.asdict(EmotionOptions()) if name == "mixing_conf" else {}
            group.add_argument(f"--{name}", action=MappingAction, default=default, help=text)
        for name, text in (
            ("tse_weights", "Initial weights of the extraction part"),
            ("ser_weights", "Initial weights of the recognition part; none: from scratch"),
            ("stats_file", "feats_stats.npz for a recognition part from scratch"),
            ("data_dir", "Mixture directory"),
            ("targets", "Formatted emotional corpus"),
            ("sources", "Formatted pool of talkers or noise"),
            ("split", "Directory with train.lst and dev.lst"),
        ):
            group.add_argument(f"--{name}", type=str_or_none, default=None, help=text)
        group.add_argument("--fs", default=16000, help="Sampling rate in Hz")
        set_emotion_defaults(parser)
        parser.set_defaults(iterator_type="task")

    @classmethod
    def check_options(cls, options, where):
        conf = check_options(options.model_conf, ESPnetTSESERModel, where("model_conf"))
        options.model_conf = conf
        mixing = mixing_options(EmotionOptions, options.mixing_conf, where("mixing_conf"))
        for share in _SHARES:
            if getattr(mixing, share) and not mixing.dynamic:
                raise UserError(
                    f"{where('mixing_conf')}: {share} is of fresh mixtures, and dynamic is false; "
                    "drop one of them"
                )
        if mixing.swap_share or mixing.absent_share:
            if conf.get("freeze_tse") or conf.get("w_tse") == 0:
                raise UserError(
                    f"{where('mixing_conf')}: swap_share and absent_share train the extraction, "
                    "which model_conf rules out (freeze_tse or w_tse 0); drop one of them"
                )
            options.unused_parameters = True  # a batch may have no emotion to train on
        options.mixing_conf = dataclasses.asdict(mixing)

    @classmethod
    def measures(cls, options):
        names, trained = criterion_names(options.tse)
        trained += ["absent_level"] if options.mixing_conf["absent_share"] else []
        own = {"ser_loss": "min"} | get_class("model", options.ser.get("model", "emotion")).measures
        valid = own | dict.fromkeys(("wa", "ua", "macro_f1"), "max")
        train, valid = dict.fromkeys(trained, "min") | own, dict.fromkeys(names, "min") | valid
        return {"train": train, "valid": valid}

    @classmethod
    def build_collate_fn(cls, args, train):
        return pad_collate

    @classmethod
    def build_preprocess_fn(cls, args, train):
        return None

    @classmethod
    def required_data_names(cls, train=True, inference=False):
        return ("speech_mix", "enroll_ref1") + (() if inference else ("speech_ref1", "emotion"))

    @classmethod
    def optional_data_names(cls, train=True, inference=False):
        return ()

    @classmethod
    def build_model(cls, args):
        fixed_seconds = (args.ser.get("frontend_conf") or {}).get("fixed_seconds")
        if fixed_seconds is not None and args.mixing_conf["max_samples"] is not None:
            raise UserError(
                f"the recogniser takes the first {fixed_seconds} s of every utterance "
                "(fixed_seconds of its frontend_conf), which max_samples of mixing_conf would "
                "replace by a random part in training; set max_samples to null"
            )
        if args.mixing_conf.get("absent_share"):
            check_absent_targets(args.tse, "mixing_conf")
        model = build_joint_model(vars(args), args.config or "the options")
        if args.tse_weights is not None:
            load_extraction_weights(model.tse_model, args.tse_weights)
        if args.ser_weights is not None:
            load_weights(model.ser_model, args.ser_weights)
        elif args.stats_file is not None and model.ser_model.normalize is not None:
            model.ser_model.normalize.read_stats(args.stats_file)
        # ESPnet writes config.yaml after this: the experiment must not depend on these files.
        args.tse_weights = args.ser_weights = args.stats_file = None
        if args.ser["frontend"] == "ssl":
            args.ser["frontend_conf"] = dict(args.ser["frontend_conf"]) | {"weights": None}
        return model

    @classmethod
    def build_task_iter_factory(cls, args, iter_options, mode):
        options = EmotionOptions(**args.mixing_conf)
        training = mode == "train"
        path = f"{args.split}/{'train' if training else 'dev'}.lst"
        ids = read_ids(path)
        rendered = MixtureDir(args.data_dir, ids, args.fs)
        labels = args.ser["labels"]
        check_emotions({utt: rendered.emotion(utt) for utt in ids}, labels, path, training)
        source = rendered
        if training and options.dynamic:
            source = _dynamic_mixtures(args, options, ids)

        lengths = rendered.lengths
        size = args.batch_size if training else args.valid_batch_size or args.batch_size
        logger.info("%s: %d mixtures, %s", mode, len(ids), type(source).__name__)
        return MixingIterFactory(
            draw=functools.partial(_draw, source, labels),
            batches=lambda rng: length_batches(lengths, size, rng if training else None),
            seed=args.seed,
            fixed=not training,
            num_workers=args.num_workers,
            part=part_of_process(),
        )


def _draw(source, labels, rng, utt):
    """An example of ``source`` with the index of its emotion."""
    utt, arrays = source.example(rng, utt)
    emotion = str(arrays["emotion"])
    index = label_index(utt, emotion, labels) if emotion else UNLABELLED
    return utt, arrays | {"emotion": np.array([index], np.int64)}


def _dynamic_mixtures(args, options, ids):
    """`EmotionMixtures` of the training ids and the groups of sources in their mixtures."""
    wanted, path = set(ids), f"{args.data_dir}/mixtures.tsv"
    table = read_mixtures(path)
    mixtures = [m for m in table if m.mixture in wanted]
    for m in mixtures:
        if m.mixture != m.target:
            raise UserError(
                f"{path}: '{m.mixture}': has a mixture of its target at every level, and fresh "
                "ones are drawn of targets; give --mixing_conf dynamic=false to train on the table"
            )
    targets = Pool.read(args.targets, args.fs)
    sources = Pool.read_sources(args.sources, args.targets, targets)
    if options.emo_share:
        _check_emo_share(args, sources, targets)
        tested = set(read_ids(f"{args.split}/test.lst"))
        known = {"train": mixtures, "test": [m for m in table if m.mixture in tested]}
        report(check_tested(args.split, known))
    utts = {m.target for m in mixtures}
    groups = {s.group for m in mixtures for s in m.sources}
    states = {m.gender_state for m in mixtures if m.of_kind(TALKER)}
    return EmotionMixtures(
        targets.subset(lambda e: e.utt in utts),
        None if sources is None else sources.subset(lambda e: e.group in groups),
        Levels(options.levels, options.loudness, options.snr, options.snr_set),
        num_sources=max(len(m.sources) for m in mixtures),
        max_samples=options.max_samples,
        gender_state=states.pop() if len(states) == 1 else "random",
        **{share: getattr(options, share) for share in _SHARES},
    )


def _check_emo_share(args, sources, targets):
    """Raise `UserError` unless the sources are talkers of another corpus than the targets."""
    fault = None
    if sources is None:
        fault = "there are no sources; give --sources"
    elif sources is targets:
        fault = f"--sources {args.sources} are speakers of that corpus already; drop it"
    elif sources.kind != TALKER:
        fault = f"--sources {args.sources} are noise, of which no speaker is a share; drop it"
    if fault is not None:
        raise UserError(f"mixing_conf: emo_share: {fault}")
