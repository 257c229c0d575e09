"""Build the emotion recognition model from a configuration, without ESPnet's task."""

import importlib

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.ids import check_id

# Lazy, so that a log-mel model does not import the SSL front-end, and the like.
CLASSES = {
    ("frontend", "logmel"): "espnet_tse_ser.ser.frontend:LogMelFrontend",
    ("frontend", "ssl"): "espnet_tse_ser.ser.ssl_frontend:SSLFrontend",
    ("normalize", "global_mvn"): "espnet_tse_ser.ser.normalize:GlobalMVN",
    ("specaug", "specaug"): "espnet_tse_ser.ser.specaug:SpecAugment",
    ("specaug", "ssl_specaug"): "espnet_tse_ser.ser.ssl_specaug:SSLSpecAugment",
    ("preencoder", "conv_stem"): "espnet_tse_ser.ser.stem:ConvStem",
    ("encoder", "shift_cnn"): "espnet_tse_ser.ser.shift_cnn:ShiftCNN",
    ("encoder", "shift_lstm"): "espnet_tse_ser.ser.shift_lstm:ShiftLSTM",
    ("encoder", "shiftformer"): "espnet_tse_ser.ser.shiftformer:Shiftformer",
    ("pooling", "stats"): "espnet_tse_ser.ser.pooling:StatsPooling",
}


def build_frontend(config):
    """Build the front-end alone; ``config`` has the keys ``frontend`` and ``frontend_conf``."""
    return _component(config, "frontend")


def build_ser_model(config):
    """Build an untrained `ESPnetSERModel`.

    Args:
        config: mapping with ``labels``, ``frontend``, ``normalize``, ``specaug``, ``preencoder``,
            ``encoder``, ``pooling``, a ``_conf`` of each, and ``model_conf``.

    Raises:
        UserError: an unknown component, or arguments that do not fit it.
    """
    from espnet_tse_ser.models.espnet_ser_model import ESPnetSERModel

    check_labels(config["labels"])
    frontend = build_frontend(config)
    size = frontend.output_size()
    normalize = _component(config, "normalize", size)
    specaug = _component(config, "specaug", size)
    preencoder = _component(config, "preencoder", size)
    size = size if preencoder is None else preencoder.output_size()
    encoder = _component(config, "encoder", size)
    pooling = _component(config, "pooling", encoder.output_size())
    try:
        return ESPnetSERModel(
            config["labels"],
            frontend,
            normalize,
            specaug,
            preencoder,
            encoder,
            pooling,
            **config.get("model_conf", {}),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"model_conf of the SER model: {error}; correct it") from error


def check_labels(labels):
    """Raise `UserError` unless ``labels`` are two or more different classes."""
    if isinstance(labels, str) or len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError(f"labels must be a list of two or more different classes, got {labels}")
    for label in labels:
        check_id(str(label), "labels")


def get_class(kind, name):
    """The class behind ``name`` of a ``kind`` of component (see `CLASSES`)."""
    if (kind, name) not in CLASSES:
        known = ", ".join(n for k, n in CLASSES if k == kind)
        raise UserError(f"{kind} '{name}' of the SER model is not known; use {known}")
    module, _, attribute = CLASSES[kind, name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _component(config, kind, *sizes):
    """Build one component, or None where the configuration names none."""
    name = config.get(kind)
    if name is None:
        if kind in ("frontend", "encoder", "pooling"):
            raise UserError(f"the SER model has no {kind}; name one in its configuration")
        return None
    try:
        return get_class(kind, name)(*sizes, **(config.get(f"{kind}_conf") or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind}_conf of the SER model: {error}; correct it") from error
