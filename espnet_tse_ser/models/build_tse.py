"""Build the extraction model from a configuration, ESPnet's or ours, without ESPnet's task."""

import importlib

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.values.kinds import Flag, Mapping, Maybe, Text, check_options
from espnet_tse_ser.values.numbers import CHANNELS, Number, shown

_SAMPLES = Number(1, 16384, whole=True)
_PARTS = ("encoder", "extractor", "decoder")

_OWN = "espnet_tse_ser.frontends.td_speakerbeam"
_SPECTRAL = "espnet_tse_ser.frontends.spectral"
# Lazy, because each of ESPnet's choices drags its own dependencies in.
_CLASSES = {
    ("encoder", "conv"): "espnet2.enh.encoder.conv_encoder:ConvEncoder",
    ("decoder", "conv"): f"{_OWN}.conv_decoder:ConvDecoder",
    ("encoder", "stft"): f"{_SPECTRAL}.transform:STFTEncoder",
    ("decoder", "stft"): f"{_SPECTRAL}.transform:STFTDecoder",
    ("extractor", "td_speakerbeam"): f"{_OWN}.extractor:TDSpeakerBeamExtractor",
    ("extractor", "tcn"): f"{_OWN}.extractor:TCNExtractor",
    ("extractor", "spectral"): f"{_SPECTRAL}.extractor:SpectralExtractor",
    ("criterion", "snr"): "espnet2.enh.loss.criterions.time_domain:SNRLoss",
    ("criterion", "si_snr"): "espnet2.enh.loss.criterions.time_domain:SISNRLoss",
    ("criterion", "ci_sdr"): "espnet2.enh.loss.criterions.time_domain:CISDRLoss",
    ("criterion", "thresholded_snr"): "espnet_tse_ser.models.snr_loss:ThresholdedSNRLoss",
    ("wrapper", "fixed_order"): "espnet2.enh.loss.wrappers.fixed_order:FixedOrderSolver",
}
_CRITERION = {"name": Maybe(Text()), "only_for_test": Flag()}


def _conv(channel: Number(2, CHANNELS.high, whole=True), kernel_size: _SAMPLES, stride: _SAMPLES):
    """What ESPnet's convolutional encoder and decoder take."""


def _criterion(
    name: Text(),
    wrapper: Text(),
    conf: Maybe(Mapping()) = None,
    wrapper_conf: Maybe(Mapping()) = None,
):
    """An entry of ``criterions``."""


_OPTIONS = {  # of ESPnet's classes; our own declare theirs
    ("encoder", "conv"): _conv,
    ("decoder", "conv"): _conv,
    ("criterion", "snr"): _CRITERION | {"eps": Number(0, 1)},
    ("criterion", "si_snr"): _CRITERION
    | {
        "clamp_db": Maybe(Number(0, 200, above=True)),
        "zero_mean": Flag(),
        "eps": Maybe(Number(0, 1, above=True, below=True)),
    },
    ("criterion", "ci_sdr"): _CRITERION | {"filter_length": _SAMPLES},
    ("wrapper", "fixed_order"): {"weight": Number(0)},
}


def check_extraction_config(config, where):
    """Check what `build_extraction_model` takes of a configuration.

    Args:
        config: mapping, see there. where: function of a key -> beginning of messages about it.

    Returns:
        dict of what is taken, with the values that are meant.

    Raises:
        UserError: a component is missing or not supported, or one of its options does not fit.
    """
    checked = {part: config.get(part) for part in _PARTS}
    for part, name in checked.items():
        _get_class(part, name, where(part))
    kind = _get_class("extractor", checked["extractor"], where("extractor")).transform
    for part in ("encoder", "decoder"):
        if checked[part] != kind:
            raise UserError(
                f"{where(part)}: extractor {checked['extractor']} is for {part} {kind}, got "
                f"{checked[part]}; give {kind}, or another extractor"
            )
    for part in _PARTS:
        conf = f"{part}_conf"
        checked[conf] = check_options(config.get(conf), _options(part, config[part]), where(conf))
    encoder, decoder = checked["encoder_conf"], checked["decoder_conf"]
    if encoder != decoder or encoder["stride"] > encoder["kernel_size"]:
        raise UserError(
            f"{where('decoder_conf')}: must be that of encoder_conf, with a stride not above "
            f"kernel_size; got {decoder} and {encoder}"
        )
    checked["criterions"] = _check_criterions(config.get("criterions"), where("criterions"))
    from espnet_tse_ser.models.espnet_tse_model import ESPnetTSEModel

    model_conf = check_options(config.get("model_conf"), ESPnetTSEModel, where("model_conf"))
    _check_speaker_encoder(config, checked["extractor_conf"], model_conf, where)
    return checked | {"model_conf": model_conf}


def _check_speaker_encoder(config, extractor_conf, model_conf, where):
    from espnet_tse_ser.models.speaker_encoder import RATE, SpeakerEncoder

    found, is_alone = model_conf.get("speaker_encoder"), extractor_conf.get("use_spk_emb")
    if is_alone and found is None:
        raise UserError(
            f"{where('extractor_conf')}: use_spk_emb: enrollments are speech here, not embeddings; "
            "drop it, or give a speaker_encoder in model_conf"
        )
    if is_alone and extractor_conf["spk_emb_dim"] != SpeakerEncoder.size:
        raise UserError(
            f"{where('extractor_conf')}: spk_emb_dim: must be {SpeakerEncoder.size} with "
            f"speaker_encoder {found}, got {extractor_conf['spk_emb_dim']}"
        )
    rate = config.get("sample_rate", config.get("fs", RATE))
    if found is not None and rate != RATE:
        raise UserError(
            f"{where('model_conf')}: speaker_encoder {found} is for {RATE} Hz, the model for "
            f"{rate} Hz; leave it out"
        )


def build_extraction_model(config, where="the extraction model"):
    """Build an untrained `ESPnetTSEModel`, or an `SSLEnhancementModel`.

    Args:
        config: mapping with the keys of ESPnet's TSE configuration: ``encoder``,
            ``encoder_conf``, ``extractor``, ``extractor_conf``, ``decoder``, ``decoder_conf``,
            ``criterions``, ``model_conf``; or those of `build_ssl_enhancement`.
        where: beginning of messages: the file of the configuration.

    Raises:
        UserError: a component that is not supported here, or options that do not fit it.
    """
    if _is_on_ssl(config):
        from espnet_tse_ser.models.ssl_enhancement import build_ssl_enhancement

        return build_ssl_enhancement(config, where)
    from espnet_tse_ser.models.espnet_tse_model import ESPnetTSEModel

    config = check_extraction_config(config, lambda key: f"{where}: {key}")
    parts = {}
    for part in _PARTS:
        sizes = (parts["encoder"].output_dim,) if part == "extractor" else ()
        parts[part] = _make(part, config[part], config[f"{part}_conf"], where, *sizes)
    wrappers = []
    for entry in config["criterions"]:
        criterion = _make("criterion", entry["name"], entry["conf"], where)
        conf = entry["wrapper_conf"] | {"criterion": criterion}
        wrappers.append(_make("wrapper", entry["wrapper"], conf, where))
    try:
        return ESPnetTSEModel(**parts, loss_wrappers=wrappers, **config["model_conf"])
    except ValueError as error:
        raise UserError(f"{where}: model_conf or criterions: {error}; correct it") from error


def _is_on_ssl(config):
    """Whether a configuration is that of an `SSLEnhancementModel`; a recogniser's has labels."""
    return "frontend" in config and "labels" not in config


def needs_enrollment(config, where):
    """Whether the model of a configuration takes enrollments; ``where``: of `_get_class`."""
    if _is_on_ssl(config):
        return False
    where = f"{where}: extractor"
    return _get_class("extractor", config.get("extractor"), where).needs_enrollment


def criterion_names(config):
    """Names of the losses of a checked configuration: of all, and of those trained on."""
    entries = config.get("criterions", ())
    losses = [_make("criterion", c["name"], c["conf"], "criterions") for c in entries]
    return [c.name for c in losses], [c.name for c in losses if not c.only_for_test]


def check_absent_targets(config, where):
    """Check that the losses of a checked configuration allow training with absent targets.

    Raises:
        UserError: the level of an output matters to none of them: that of all outputs would sink
            for the sake of those that should be silent.
    """
    from espnet_tse_ser.models.snr_loss import OF_LEVEL

    known = [name for kind, name in _CLASSES if kind == "criterion"]
    names = [n for n in known if issubclass(_get_class("criterion", n, where), OF_LEVEL)]
    if not any(
        c["name"] in names
        and c["wrapper_conf"].get("weight", 1) > 0
        and not c["conf"].get("only_for_test")
        for c in config["criterions"]
    ):
        raise UserError(
            f"{where}: absent_share needs a criterion of the extraction to which the level of its "
            f"output matters ({', '.join(names)}), but it is trained on "
            f"{', '.join(c['name'] for c in config['criterions'])} alone"
        )


def _check_criterions(entries, where):
    if not isinstance(entries, (list, tuple)) or not entries:
        raise UserError(f"{where}: expected a list of one or more criterions, got {shown(entries)}")
    checked = []
    for number, entry in enumerate(entries):
        place = f"{where}[{number}]"
        entry = check_options(entry, _criterion, place)
        for kind, key, conf in (
            ("criterion", "name", "conf"),
            ("wrapper", "wrapper", "wrapper_conf"),
        ):
            _get_class(kind, entry[key], f"{place}: {key}")
            options = _options(kind, entry[key])
            entry[conf] = check_options(entry.get(conf), options, f"{place}: {conf}")
        checked.append(entry)
    return checked


def classes_of(kind):
    """Name -> class of the choices of a ``kind`` of part."""
    return {name: _get_class(k, name, kind) for k, name in _CLASSES if k == kind}


def _options(kind, name):
    """Who declares the options of a class."""
    return _OPTIONS.get((kind, name)) or _get_class(kind, name, kind)


def _get_class(kind, name, where):
    known = [n for k, n in _CLASSES if k == kind]
    if name not in known:
        fault = "is missing" if name is None else f"{shown(name)} is not supported"
        raise UserError(f"{where}: {fault}; use {', '.join(known)}")
    module, _, attribute = _CLASSES[kind, name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _make(kind, name, conf, where, *sizes):
    try:
        return _get_class(kind, name, where)(*sizes, **conf)
    except (ValueError, RuntimeError, MemoryError) as error:  # sizes that do not fit, or memory
        raise UserError(f"{where}: {kind}_conf: {first_line(error)}; correct it") from error
