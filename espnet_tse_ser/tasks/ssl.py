"""Pretraining of an encoder by itself as an ESPnet task, with dynamic mixing."""

from espnet2.tasks.abs_task import AbsTask

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.models.ssl_pretraining import MASK_WIDTH, SSLPretrainingModel
from espnet_tse_ser.recognise.ssl_frontend import ARCHITECTURE, smallest_input
from espnet_tse_ser.tasks.pretraining import KINDS, PretrainingTask
from espnet_tse_ser.training import schedulers
from espnet_tse_ser.training.trainer import ExtractionTrainer
from espnet_tse_ser.values.kinds import Only, check_options

schedulers.register()


class SSLTask(PretrainingTask, AbsTask):
    """ESPnet's task interface for `SSLPretrainingModel`; ``config.yaml`` alone rebuilds it."""

    num_optimizers = 1
    class_choices_list = []
    trainer = ExtractionTrainer
    kinds = KINDS | {"sample_rate": Only(16000)}
    model_class = SSLPretrainingModel
    confs = {
        "arch_conf": "The encoder: that of SSLFrontend, of arch custom",
        "model_conf": "Units and masks of SSLPretrainingModel",
    }

    @classmethod
    def add_task_arguments(cls, parser):
        group = parser.add_argument_group("Task related")
        for name, text in cls.confs.items():
            group.add_argument(f"--{name}", action=MappingAction, default={}, help=text)
        group.add_argument("--sample_rate", default=16000, help="Sampling rate in Hz")
        cls.add_mixing_arguments(parser)

    @classmethod
    def check_options(cls, options, where):
        for key, taker in (("arch_conf", ARCHITECTURE), ("model_conf", SSLPretrainingModel)):
            setattr(options, key, check_options(getattr(options, key), taker, where(key)))
        hidden = options.model_conf.get("mask_width", MASK_WIDTH)
        window = smallest_input(hidden, "custom", options.arch_conf)
        cls.check_mixing(options, where, "an encoder", enrolled=False, window=window)

    @classmethod
    def measures(cls, options):
        found = cls.model_class.measures_of(**options.model_conf)
        return dict.fromkeys(("train", "valid"), found)

    @classmethod
    def build_preprocess_fn(cls, args, train):
        return None

    @classmethod
    def required_data_names(cls, train=True, inference=False):
        return ("speech_mix", "speech_ref1")

    @classmethod
    def optional_data_names(cls, train=True, inference=False):
        return ("speaker",)

    @classmethod
    def build_model(cls, args):
        try:
            return SSLPretrainingModel(args.arch_conf, **args.model_conf)
        except ValueError as error:
            where = args.config or "the options"
            raise UserError(f"{where}: arch_conf: {first_line(error)}; correct it") from None
