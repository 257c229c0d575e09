"""Options of an ESPnet task, with errors for users."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_yaml


def parse_task_options(task, command):
    """Parse the options of ``task``, configuration file included.

    Args:
        task: `AbsTask` class; command: list of strings.

    Returns:
        the namespace that ``task.main(args=...)`` takes.

    Raises:
        UserError: an unknown option, an unknown key in the configuration, a value that does not
            fit, or a configuration that is missing or no YAML (ESPnet would print its usage of
            300 lines).
    """
    parser = task.get_parser()

    def refuse(message):
        raise UserError(f"{message}; see {parser.prog} --help and ESPnet's options")

    parser.error = refuse
    if "--config" in command:
        read_yaml(command[command.index("--config") + 1])
    return parser.parse_args(command)


def set_emotion_defaults(parser):
    """Defaults of ESPnet that fit training with a dev UA; configurations and options override."""
    parser.set_defaults(
        best_model_criterion=[("valid", "ua", "max"), ("valid", "wa", "max")],
        early_stopping_criterion=("valid", "ua", "max"),
        keep_nbest_models=[1],
        num_att_plot=0,
        num_workers=0,
        resume=True,
        use_matplotlib=False,
        use_tensorboard=False,
    )
