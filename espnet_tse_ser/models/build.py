"""Build the joint model from a configuration, without ESPnet's task."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.espnet_tse_ser_model import ESPnetTSESERModel
from espnet_tse_ser.ser.build import build_ser_model
from espnet_tse_ser.tse.build import build_extraction_model


def build_joint_model(config):
    """Build an untrained `ESPnetTSESERModel`.

    Args:
        config: mapping with ``tse`` and ``ser``, the configurations of the two parts, and
            ``model_conf``.
    """
    try:
        return ESPnetTSESERModel(
            build_extraction_model(config["tse"]),
            build_ser_model(config["ser"]),
            **config.get("model_conf", {}),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"model_conf of the joint model: {error}; correct it") from error
