"""TSE pretraining: ESPnet's task with dynamic mixing and the masked TD-SpeakerBeam."""

import argparse
import copy

from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask
from espnet2.utils.types import str_or_none

from espnet_tse_ser.frontends.extraction import load_extraction_weights
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pretraining_speakers
from espnet_tse_ser.models.build_tse import (
    build_extraction_model,
    check_absent_targets,
    check_extraction_config,
    classes_of,
    criterion_names,
    needs_enrollment,
)
from espnet_tse_ser.tasks.pretraining import KINDS, PretrainingTask
from espnet_tse_ser.training.trainer import ExtractionTrainer
from espnet_tse_ser.values.kinds import Only
from espnet_tse_ser.values.numbers import RATE

_PARTS = ("encoder", "extractor", "decoder")
_USED = {"model_conf", "criterions", "sample_rate", *_PARTS, *(f"{p}_conf" for p in _PARTS)}


def _unused():
    """Kinds of ESPnet's options that have no effect here: dynamic mixing does what they do."""
    parser = argparse.ArgumentParser(add_help=False)
    TargetSpeakerExtractionTask.add_task_arguments(parser)
    return {a.dest: Only(a.default) for a in parser._actions if a.dest not in _USED}


class TSETask(PretrainingTask, TargetSpeakerExtractionTask):
    """ESPnet's extraction task; ``--iterator_type task`` mixes dynamically from ``--pool``."""

    class_choices_list = [copy.copy(c) for c in TargetSpeakerExtractionTask.class_choices_list]
    trainer = ExtractionTrainer
    kinds = (
        _unused()
        | KINDS
        | {
            "criterions": lambda value: value,  # check_options looks at them
            "sample_rate": RATE,
        }
    )

    @classmethod
    def add_task_arguments(cls, parser):
        super().add_task_arguments(parser)
        cls.add_mixing_arguments(parser)
        parser.add_argument(
            "--tse_weights",
            type=str_or_none,
            default=None,
            help="Weights to start from, of a model of the same configuration, with or without a "
            "speaker_encoder",
        )
        # ESPnet's rate is 8000, nothing else here is.
        parser.set_defaults(encoder="conv", decoder="conv", sample_rate=16000)

    @classmethod
    def check_options(cls, options, where):
        vars(options).update(check_extraction_config(vars(options), where))
        enrolled = needs_enrollment(vars(options), "the options")
        window = options.encoder_conf["kernel_size"]
        cls.check_mixing(options, where, f"extractor {options.extractor}", enrolled, window)
        if options.mixing_conf["absent_share"]:
            check_absent_targets(vars(options), where("mixing_conf"))

    @classmethod
    def measures(cls, options):
        names, trained = criterion_names(vars(options))
        further = ["absent_level"] if options.mixing_conf["absent_share"] else []
        train = dict.fromkeys([*trained, *further, "loss"], "min")
        if options.model_conf.get("speaker_loss_weight", 0) > 0:
            train |= {"speaker_loss": "min", "speaker_acc": "max"}
        return {"train": train, "valid": dict.fromkeys([*names, *further, "loss"], "min")}

    @classmethod
    def build_model(cls, args):
        if args.model_conf.get("speaker_loss_weight", 0) > 0 and args.pool is not None:
            pool = Pool.read(args.pool, args.sample_rate)
            options = PretrainingOptions(**args.mixing_conf)
            speakers, _ = pretraining_speakers(pool, options, args.seed)
            args.model_conf["num_speakers"] = len(speakers)
        model = build_extraction_model(vars(args), args.config or "the options")
        new = ()
        if model.speaker_encoder is not None:
            model.speaker_encoder.load_pretrained()
            new = ("speaker_encoder", "speaker_projection")
        if args.tse_weights is not None:
            load_extraction_weights(model, args.tse_weights, optional=new)
        args.tse_weights = None  # config.yaml, which is written now, must not depend on that file
        return model


# td_speakerbeam is ours: same parameters, padding masked, faster. So is stft, with real spectra.
for _choices in TSETask.class_choices_list:
    if _choices.name in _PARTS:
        _known = {} if _choices.name == "extractor" else _choices.classes
        _choices.classes = _known | classes_of(_choices.name)
