"""Build the emotion recognition model from a configuration, without ESPnet's task."""

import importlib

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.own_classes import check_modules, load_class, own_classes
from espnet_tse_ser.values.kinds import Id, Several, check_option, check_options
from espnet_tse_ser.values.numbers import RATE, shown

# Lazy, so that a log-mel model does not import the SSL front-end, and the like.
CLASSES = {
    ("frontend", "logmel"): "espnet_tse_ser.recognise.frontend:LogMelFrontend",
    ("frontend", "ssl"): "espnet_tse_ser.recognise.ssl_frontend:SSLFrontend",
    ("normalize", "global_mvn"): "espnet_tse_ser.recognise.normalize:GlobalMVN",
    ("specaug", "specaug"): "espnet_tse_ser.recognise.specaug:SpecAugment",
    ("specaug", "ssl_specaug"): "espnet_tse_ser.recognise.ssl_specaug:SSLSpecAugment",
    ("preencoder", "conv_stem"): "espnet_tse_ser.recognise.stem:ConvStem",
    ("preencoder", "deltas"): "espnet_tse_ser.recognise.deltas:Deltas",
    ("encoder", "shift_cnn"): "espnet_tse_ser.recognise.shift_cnn:ShiftCNN",
    ("encoder", "shift_lstm"): "espnet_tse_ser.recognise.shift_lstm:ShiftLSTM",
    ("encoder", "shiftformer"): "espnet_tse_ser.recognise.shiftformer:Shiftformer",
    ("encoder", "cnn6"): "espnet_tse_ser.recognise.cnn6:CNN6",
    ("encoder", "identity"): "espnet_tse_ser.recognise.identity:Identity",
    ("pooling", "stats"): "espnet_tse_ser.recognise.pooling:StatsPooling",
    ("pooling", "attention"): "espnet_tse_ser.recognise.pooling:AttentionPooling",
    ("pooling", "attentive_stats"): "espnet_tse_ser.recognise.pooling:AttentiveStatsPooling",
    ("model", "emotion"): "espnet_tse_ser.models.espnet_ser_model:ESPnetSERModel",
    ("model", "trnet"): "espnet_tse_ser.models.trnet:TRNet",
    ("model", "shared"): "espnet_tse_ser.models.shared:SharedModel",
    ("model", "shared_extraction"): (
        "espnet_tse_ser.models.shared_extraction:SharedExtractionModel"
    ),
}
KINDS = tuple(dict.fromkeys(kind for kind, _ in CLASSES))
_NEEDED = ("frontend", "encoder", "pooling", "model")
_DEFAULTS = {"model": "emotion"}  # of configurations from before there was a choice


def check_ser_config(config, where, kinds=KINDS):
    """Check what `build_ser_model` takes of a configuration.

    Args:
        config: mapping, see there. where: function of a key -> beginning of messages about it.
        kinds: the components to look at; with all of them also ``labels``.

    Returns:
        dict of what is taken, with the values that are meant.

    Raises:
        UserError: a component is missing or not known, or one of its options does not fit.
    """
    check_modules(own_classes(config, kinds), config.get("modules"), where)
    checked = {}
    for kind in kinds:
        name, conf = config.get(kind, _DEFAULTS.get(kind)), config.get(f"{kind}_conf")
        if name is None and kind in _NEEDED:
            raise UserError(f"{where(kind)}: the model needs one; use {_known(kind)}")
        checked[kind], checked[f"{kind}_conf"] = name, {}
        if name is not None:
            taker = get_class(kind, name, where(kind))
            checked[f"{kind}_conf"] = check_options(conf, taker, where(f"{kind}_conf"))
    if kinds == KINDS:
        checked["labels"] = check_labels(config.get("labels"), where("labels"))
        checked["modules"] = config.get("modules") or {}
    return checked


def build_frontend(config, where="the SER model"):
    """Build the front-end alone; ``config`` has the keys ``frontend`` and ``frontend_conf``."""
    config = config | check_ser_config(config, lambda key: f"{where}: {key}", ("frontend",))
    frontend = _component(config, "frontend", where)
    rate = check_option(config.get("fs", 16000), RATE, f"{where}: fs")
    if frontend.fs != rate:
        raise UserError(
            f"{where}: frontend_conf: this front-end is for {frontend.fs} Hz, but fs is {rate}; "
            "give both the same rate"
        )
    return frontend


def build_ser_model(config, where="the SER model"):
    """Build an untrained `ESPnetSERModel`, or a class that a configuration names in its place.

    Args:
        config: mapping with ``labels``, ``frontend``, ``normalize``, ``specaug``, ``preencoder``,
            ``encoder``, ``pooling``, ``model``, a ``_conf`` of each, ``fs``, and, with classes of
            one's own, ``modules``.
        where: beginning of messages: the file of the configuration.

    Raises:
        UserError: an unknown component, or options that do not fit it.
    """
    config = config | check_ser_config(config, lambda key: f"{where}: {key}")
    frontend = build_frontend(config, where)
    size = frontend.output_size()
    normalize = _component(config, "normalize", where, size)
    specaug = _component(config, "specaug", where, size)
    preencoder = _component(config, "preencoder", where, size)
    size = size if preencoder is None else preencoder.output_size()
    encoder = _component(config, "encoder", where, size)
    pooling = _component(config, "pooling", where, encoder.output_size())
    parts = (config["labels"], frontend, normalize, specaug, preencoder, encoder, pooling)
    return _component(config, "model", where, *parts)


def check_labels(labels, where="labels"):
    """The classes as a list; a `UserError` unless they are two or more different names."""
    labels = check_option(labels, Several(Id(), 2, 1000), where)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UserError(f"{where}: '{twice}' is there twice; name each class once")
    return labels


def get_class(kind, name, where="the SER model"):
    """The class behind ``name`` of a ``kind`` of component: of `CLASSES`, or of one's own."""
    if own_classes({kind: name}, (kind,)):
        return load_class(name, where)
    if name not in names_of(kind):
        raise UserError(f"{where}: {shown(name)} is not known; use {_known(kind)}")
    module, _, attribute = CLASSES[kind, name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def names_of(kind):
    """The names of a ``kind`` of component in `CLASSES`."""
    return [n for k, n in CLASSES if k == kind]


def _known(kind):
    return ", ".join([*names_of(kind), "or a class of your own (module:Class)"])


def _component(config, kind, where, *parts):
    """Build one component of a checked configuration, or None where it names none."""
    if config[kind] is None:
        return None
    try:
        return get_class(kind, config[kind], where)(*parts, **config[f"{kind}_conf"])
    except UserError as error:
        raise UserError(f"{where}: {kind}_conf: {error}") from None
    except (ValueError, RuntimeError, MemoryError) as error:  # sizes that do not fit, or memory
        raise UserError(f"{where}: {kind}_conf: {first_line(error)}; correct it") from error
