"""Pretraining of a front-end on an SSL encoder as an ESPnet task, with dynamic mixing."""

from espnet_tse_ser.models.build_ser import check_ser_config
from espnet_tse_ser.models.ssl_enhancement import SSLEnhancementModel, build_ssl_enhancement
from espnet_tse_ser.tasks.ssl import SSLTask
from espnet_tse_ser.values.kinds import Choice, check_options


class SSLEnhancementTask(SSLTask):
    """ESPnet's task interface for `SSLEnhancementModel`; ``config.yaml`` alone rebuilds it."""

    kinds = SSLTask.kinds | {"frontend": Choice("ssl")}
    model_class = SSLEnhancementModel
    confs = {
        "frontend_conf": "That of SSLFrontend",
        "model_conf": "Sizes of the head of SSLEnhancementModel",
    }

    @classmethod
    def add_task_arguments(cls, parser):
        parser.add_argument("--frontend", default="ssl", help="The encoder: ssl")
        super().add_task_arguments(parser)

    @classmethod
    def check_options(cls, options, where):
        vars(options).update(check_ser_config(vars(options), where, ("frontend",)))
        options.model_conf = check_options(
            options.model_conf, SSLEnhancementModel, where("model_conf")
        )
        cls.check_mixing(options, where, "an SSL encoder", enrolled=False, window=1)

    @classmethod
    def build_model(cls, args):
        model = build_ssl_enhancement(vars(args), args.config or "the options")
        # ESPnet writes config.yaml after this: the experiment must not depend on these files.
        args.frontend_conf = args.frontend_conf | {"weights": None}
        return model
