"""Build the extraction model from a configuration, ESPnet's or ours, without ESPnet's task."""

import importlib

from espnet_tse_ser.errors import UserError

# Lazy, because each of ESPnet's choices drags its own dependencies in.
_CLASSES = {
    ("encoder", "conv"): "espnet2.enh.encoder.conv_encoder:ConvEncoder",
    ("decoder", "conv"): "espnet_tse_ser.tse.conv_decoder:ConvDecoder",
    ("extractor", "td_speakerbeam"): "espnet_tse_ser.tse.td_speakerbeam:TDSpeakerBeamExtractor",
    ("criterion", "snr"): "espnet2.enh.loss.criterions.time_domain:SNRLoss",
    ("criterion", "si_snr"): "espnet2.enh.loss.criterions.time_domain:SISNRLoss",
    ("criterion", "ci_sdr"): "espnet2.enh.loss.criterions.time_domain:CISDRLoss",
    ("wrapper", "fixed_order"): "espnet2.enh.loss.wrappers.fixed_order:FixedOrderSolver",
}


def _get_class(kind, name):
    if (kind, name) not in _CLASSES:
        known = ", ".join(n for k, n in _CLASSES if k == kind)
        raise UserError(f"{kind} '{name}' of the extraction model is not supported; use {known}")
    module, _, attribute = _CLASSES[kind, name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build_extraction_model(config):
    """Build an untrained `ESPnetTSEModel`.

    Args:
        config: mapping with the keys of ESPnet's TSE configuration: ``encoder``,
            ``encoder_conf``, ``extractor``, ``extractor_conf``, ``decoder``, ``decoder_conf``,
            ``criterions``, ``model_conf``.

    Raises:
        UserError: a component that is not supported here, or arguments that do not fit it.
    """
    from espnet_tse_ser.models.espnet_tse_model import ESPnetTSEModel

    try:
        encoder = _get_class("encoder", config["encoder"])(**config["encoder_conf"])
        extractor = _get_class("extractor", config["extractor"])(
            encoder.output_dim, **config["extractor_conf"]
        )
        decoder = _get_class("decoder", config["decoder"])(**config["decoder_conf"])
        wrappers = [
            _get_class("wrapper", c["wrapper"])(
                criterion=_get_class("criterion", c["name"])(**c.get("conf", {})),
                **c.get("wrapper_conf", {}),
            )
            for c in config["criterions"]
        ]
        return ESPnetTSEModel(
            encoder=encoder,
            extractor=extractor,
            decoder=decoder,
            loss_wrappers=wrappers,
            **config.get("model_conf", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"configuration of the extraction model: {error!r}; correct it") from error
