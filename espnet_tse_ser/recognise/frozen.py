"""Whether the front-end of a SER configuration always gives the same features.

Without the front-end itself, whose import takes seconds.
"""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Flag, Mapping, Text, check_option


def why_not_frozen(config, where="the configuration"):
    """Why the features of a SER configuration can change; None if they cannot.

    Args:
        config: mapping, which may have ``frontend`` and ``frontend_conf``. where: beginning of
            messages.

    Raises:
        UserError: one of these is none.
    """
    frontend = check_option(config.get("frontend", "logmel"), Text(), f"{where}: frontend")
    if frontend.strip().lower() != "ssl":
        return f"front-end '{frontend}' is computed as fast as it is read"
    place = f"{where}: frontend_conf"
    conf = check_option(config.get("frontend_conf") or {}, Mapping(), place)
    if check_option(conf.get("finetune", False), Flag(), f"{place}: finetune"):
        return "finetune: true changes the front-end in training"
    if str(conf.get("layer")).strip().lower() == "weighted":
        return "layer: weighted is learned in training"
    if conf.get("weights", "bundle") is None:
        return "weights: null makes another front-end of random weights in every training"
    return None


def check_frozen(config, where="the front-end"):
    """Raise `UserError` unless the features can be kept; see `why_not_frozen`."""
    reason = why_not_frozen(config, where)
    if reason is not None:
        raise UserError(
            f"{where}: features cannot be kept: {reason}; do without (--feats_dtype none in a "
            "recipe), or correct frontend and frontend_conf"
        )
