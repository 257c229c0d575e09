"""Build the joint model from a configuration, without ESPnet's task."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.models.espnet_tse_ser_model import ESPnetTSESERModel
from espnet_tse_ser.values.kinds import check_options


def build_joint_model(config, where="the joint model"):
    """Build an untrained `ESPnetTSESERModel`.

    Args:
        config: mapping with ``tse`` and ``ser``, the configurations of the two parts,
            ``model_conf`` and ``fs``.
        where: beginning of messages: the file of the configuration.
    """
    conf = check_options(config.get("model_conf"), ESPnetTSESERModel, f"{where}: model_conf")
    parts = {}
    for part, build in (("tse", build_extraction_model), ("ser", build_ser_model)):
        if not isinstance(config.get(part), dict):
            raise UserError(f"{where}: {part}: expected the configuration of a part; correct it")
        parts[part] = build(config[part] | {"fs": config.get("fs", 16000)}, f"{where}: {part}")
    try:
        return ESPnetTSESERModel(parts["tse"], parts["ser"], **conf)
    except ValueError as error:
        raise UserError(f"{where}: model_conf: {error}; correct it") from error
