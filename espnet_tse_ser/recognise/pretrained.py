"""Encoders that a recipe pretrains itself, as a SER configuration names them.

``frontend_conf: {arch: conf/train_ssl.yaml}`` has the configuration of the pretraining in place of
a bundle; commands are told the experiment by ``--encoder``. Without the front-end itself, whose
import takes seconds.
"""

from pathlib import Path

from espnet_tse_ser.errors import UserError


def pretraining_of(config):
    """The configuration of the pretraining that a SER configuration names, or None."""
    conf = config.get("frontend_conf")
    arch = conf.get("arch") if isinstance(conf, dict) else None
    return arch if isinstance(arch, str) and Path(arch).suffix in (".yaml", ".yml") else None


def add_encoder_option(parser):
    """Add ``--encoder``, for `with_encoder`."""
    parser.add_argument(
        "--encoder", help="experiment of the pretraining that frontend_conf names as arch"
    )


def with_encoder(config, encoder, where):
    """The ``frontend_conf`` of a SER configuration with the encoder that a recipe has pretrained.

    Args:
        config: mapping. encoder: directory of the pretraining, or None. where: beginning of
            messages.

    Returns:
        a mapping that `SSLFrontend` takes; the same where no pretraining is named.

    Raises:
        UserError: one is named, but no directory given, or the reverse; or it holds no encoder.
    """
    conf, named = config.get("frontend_conf"), pretraining_of(config)
    if (named is None) != (encoder is None):
        raise UserError(
            f"{where}: frontend_conf: arch: {named} is the configuration of a pretraining, whose "
            "experiment --encoder has to name; run stage 6 and give it"
            if encoder is None
            else f"--encoder: {where} names no pretraining as arch of frontend_conf; leave it out"
        )
    if named is None:
        return conf
    from espnet_tse_ser.training.checkpoints import find_weights, read_config
    from espnet_tse_ser.values.kinds import Mapping, check_option

    place = f"{Path(encoder) / 'config.yaml'}: arch_conf"
    arch_conf = check_option(read_config(encoder).get("arch_conf"), Mapping(), place)
    weights = str(find_weights(encoder, "valid.loss"))
    return conf | {"arch": "custom", "arch_conf": arch_conf, "weights": weights}
