"""Every option of every component: what does not fit is refused by the doors, and is named.

The members come from the declarations, so that a new option is covered when it is declared.
"""

import inspect

import pytest
from option_values import wrong_values

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.emotional import EmotionOptions
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions
from espnet_tse_ser.mixtures.variations import Variation, read_variation
from espnet_tse_ser.models import build_tse as build
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.models.build_ser import CLASSES, build_ser_model, get_class
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.models.espnet_ser_model import ESPnetSERModel
from espnet_tse_ser.models.espnet_tse_model import ESPnetTSEModel
from espnet_tse_ser.models.espnet_tse_ser_model import ESPnetTSESERModel
from espnet_tse_ser.recognise.ssl_frontend import ARCHITECTURE
from espnet_tse_ser.training.dynamic import mixing_options
from espnet_tse_ser.values.kinds import Interval, Several, options_of
from espnet_tse_ser.values.numbers import Number

LABELS = ["ang", "hap", "neu", "sad"]


def _ser(kind, name):
    config = {"labels": LABELS, "frontend": "logmel", "encoder": "shift_cnn", "pooling": "stats"}
    config["preencoder"], config["preencoder_conf"] = "conv_stem", {"output_size": 24}
    config |= {kind: name, f"{kind}_conf": {}}
    if name == "ssl":
        config["frontend_conf"] = {"arch": "HUBERT_BASE", "weights": None}

    def door(option, value):
        conf = config.get(f"{kind}_conf", {}) | {option: value}
        return build_ser_model(config | {f"{kind}_conf": conf}, "train.yaml")

    return door, f"train.yaml: {kind}_conf"


def _tse(kind, extractor="td_speakerbeam"):
    config = {
        "encoder": "conv",
        "encoder_conf": {"channel": 16, "kernel_size": 32, "stride": 16},
        "extractor": extractor,
        "extractor_conf": {
            "layer": 2,
            "stack": 2,
            "bottleneck_dim": 8,
            "hidden_dim": 16,
            "skip_dim": 8,
            **({"i_adapt_layer": 1, "adapt_enroll_dim": 8} if extractor != "tcn" else {}),
        },
        "decoder": "conv",
        "decoder_conf": {"channel": 16, "kernel_size": 32, "stride": 16},
        "criterions": [{"name": "si_snr", "wrapper": "fixed_order"}],
    }

    def door(option, value):
        if kind in ("conf", "wrapper_conf"):
            entry = config["criterions"][0] | {kind: {option: value}}
            return build_extraction_model(config | {"criterions": [entry]}, "train.yaml")
        conf = config.get(f"{kind}_conf", {}) | {option: value}
        return build_extraction_model(config | {f"{kind}_conf": conf}, "train.yaml")

    place = f"criterions[0]: {kind}" if "conf" in kind else f"{kind}_conf"
    return door, f"train.yaml: {place}"


def _arch(option, value):
    conf = {"arch": "custom", "arch_conf": {"type": "hubert", option: value}, "weights": None}
    config = {"labels": LABELS, "frontend": "ssl", "encoder": "shift_cnn", "pooling": "stats"}
    return build_ser_model(config | {"frontend_conf": conf}, "train.yaml")


def _mixing(taker):
    return lambda option, value: mixing_options(taker, {option: value}, "train.yaml: mixing_conf")


def _joint(option, value):
    config = {"tse": {}, "ser": {}, "model_conf": {option: value}}
    return build_joint_model(config, "train.yaml")


# name -> (kinds of the options, function of an option and a value that has to refuse it, its place)
DOORS = {
    f"{kind}-{name}": (options_of(get_class(kind, name)), *_ser(kind, name))
    for kind, name in CLASSES
} | {
    "ser-model": (options_of(ESPnetSERModel), *_ser("model", "emotion")),
    "ssl-architecture": (ARCHITECTURE, _arch, "train.yaml: frontend_conf: arch_conf"),
    "encoder-conv": (options_of(build._conv), *_tse("encoder")),
    "decoder-conv": (options_of(build._conv), *_tse("decoder")),
    "extractor": (
        options_of(build._get_class("extractor", "td_speakerbeam", "")),
        *_tse("extractor"),
    ),
    "enhancer": (options_of(build._get_class("extractor", "tcn", "")), *_tse("extractor", "tcn")),
    "criterion": (build._OPTIONS["criterion", "si_snr"], *_tse("conf")),
    "wrapper": (build._OPTIONS["wrapper", "fixed_order"], *_tse("wrapper_conf")),
    "tse-model": (options_of(ESPnetTSEModel), *_tse("model")),
    "joint-model": (options_of(ESPnetTSESERModel), _joint, "train.yaml: model_conf"),
    "pretraining": (
        options_of(PretrainingOptions),
        _mixing(PretrainingOptions),
        "train.yaml: mixing_conf",
    ),
    "mixing": (options_of(EmotionOptions), _mixing(EmotionOptions), "train.yaml: mixing_conf"),
}
OPTIONS = [(name, option) for name, (kinds, _, _) in DOORS.items() for option in kinds]


def test_there_are_options():
    assert len(OPTIONS) >= 130
    assert [name for name, (kinds, _, _) in DOORS.items() if not kinds] == ["encoder-identity"]


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda text: text)
def test_what_does_not_fit_is_refused_by_name(name, option):
    kinds, door, place = DOORS[name]
    values = wrong_values(kinds[option])
    assert len(values) > 2
    for value in values:
        with pytest.raises(UserError) as caught:
            door(option, value)
        message = str(caught.value)
        assert message.startswith(f"{place}: {option}: expected "), value
        assert "\n" not in message and len(message) < 500 and message.endswith("; correct it")


@pytest.mark.parametrize("name", DOORS)
def test_unknown_keys_are_refused(name):
    _, door, place = DOORS[name]
    with pytest.raises(UserError) as caught:
        door("no_such_option", 1)
    assert str(caught.value).startswith(f"{place}: unknown key 'no_such_option'; known: ")


TAKERS = [
    *(get_class(kind, name) for kind, name in CLASSES),
    *(ESPnetSERModel, ESPnetTSEModel, ESPnetTSESERModel, PretrainingOptions, EmotionOptions),
    *(build._get_class("extractor", name, "") for name in ("td_speakerbeam", "tcn")),
    Variation,
]


@pytest.mark.parametrize("taker", TAKERS, ids=lambda taker: taker.__name__)
def test_defaults_fit(taker):
    for name, kind in options_of(taker).items():
        default = inspect.signature(taker).parameters[name].default
        if default is inspect.Parameter.empty:
            continue
        found = kind(default)
        assert found == (list(default) if isinstance(kind, Several) and default else default)
        if isinstance(kind, Number):
            assert kind(str(default)) == default  # in quotes
        if isinstance(kind, Interval):
            assert kind([str(end) for end in default]) == default


def test_texts_become_numbers_in_the_model():
    door, _ = _ser("encoder", "shift_cnn")
    assert len(door("num_blocks", "3").encoder.blocks) == 3
    assert len(door("num_blocks", 3.0).encoder.blocks) == 3
    door, _ = _tse("extractor")
    assert len(door("layer", "1e0").extractor.tcn.network[2][0]) == 1


@pytest.mark.parametrize("option", options_of(Variation))
def test_variations(tmp_path, option):
    import yaml

    good = {"about": "A test.", "sweep": "tests", "value": 1}
    path = tmp_path / "a.yaml"
    for value in wrong_values(options_of(Variation)[option]):
        path.write_text(yaml.safe_dump(good | {option: value}))
        with pytest.raises(UserError) as caught:
            read_variation(path)
        assert str(caught.value).startswith(f"{path}: {option}: expected ")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("frontend", {"hop_length": 401}, "hop_length 401 must not be above win_length 400"),
        ("frontend", {"win_length": 513}, "win_length 513"),
        ("frontend", {"fmin": 4000, "fmax": 3000}, "fmin 4000 must be below fmax 3000"),
        ("frontend", {"fmax": 8001}, "fmax 8001, and that not above half of fs 16000"),
        ("frontend", {"n_mels": 258}, "n_mels 258 are more than the 257 bins"),
        ("frontend", {"fs": 8000, "fmax": 4000}, "for 8000 Hz, but fs is 16000"),
        ("encoder", {"ndiv": 25}, "ndiv 25 does not fit 24 channels"),
        ("model", {"class_weight": [1, 2]}, "class_weight needs 4 values, got 2"),
    ],
)
def test_options_that_do_not_fit_each_other(kind, options, message):
    config = {"labels": LABELS, "frontend": "logmel", "encoder": "shift_cnn", "pooling": "stats"}
    config |= {"preencoder": "conv_stem", "preencoder_conf": {"output_size": 24}}
    with pytest.raises(UserError, match=f"^train.yaml: {kind}_conf: .*{message}"):
        build_ser_model(config | {f"{kind}_conf": options}, "train.yaml")


@pytest.mark.parametrize("number", [4, 99, 255])
def test_an_enrollment_without_effect_is_refused(tse_config, number):
    conf = tse_config["extractor_conf"] | {"i_adapt_layer": number}
    message = rf"extractor_conf: i_adapt_layer {number} does not exist.*2 x 2 blocks, 0 to 3"
    with pytest.raises(UserError, match=message):
        build_extraction_model(tse_config | {"extractor_conf": conf}, "train.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapt_enroll_dim": 16}, "adapt_enroll_dim must be 8"),
        ({"adapt_layer_type": "muladd"}, "adapt_enroll_dim must be 16"),
        ({"adapt_layer_type": "concat", "adapt_enroll_dim": 4}, "adapt_enroll_dim must be 8"),
        ({"skip_dim": 16}, "skip_dim must be 8"),
        ({"use_spk_emb": True}, "extractor_conf: use_spk_emb: enrollments are speech"),
    ],
)
def test_parts_of_an_extractor_fit_each_other(tse_config, changes, message):
    conf = tse_config["extractor_conf"] | changes
    with pytest.raises(UserError, match=message):
        build_extraction_model(tse_config | {"extractor_conf": conf}, "train.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"decoder_conf": {"channel": 24, "kernel_size": 32, "stride": 16}},
            "that of encoder_conf",
        ),
        ({"decoder_conf": {"channel": 16, "kernel_size": 32, "stride": 8}}, "that of encoder_conf"),
        ({"encoder_conf": {"channel": 16, "kernel_size": 32}}, "encoder_conf: has no 'stride'"),
        ({"criterions": []}, "criterions: expected a list"),
        ({"criterions": {"name": "si_snr"}}, "criterions: expected a list"),
        ({"criterions": None}, "criterions: expected a list"),
        ({"criterions": ["si_snr"]}, r"criterions\[0\]: expected a mapping"),
        ({"criterions": [{"name": "si_snr"}]}, r"criterions\[0\]: has no 'wrapper'"),
    ],
)
def test_parts_of_an_extraction_model_fit_each_other(tse_config, changes, message):
    with pytest.raises(UserError, match=f"^train.yaml: .*{message}"):
        build_extraction_model(tse_config | changes, "train.yaml")


@pytest.mark.parametrize(
    "entry",
    [{"wrapper_conf": {"weight": 0}}, {"conf": {"only_for_test": True}}],
)
def test_a_model_without_a_loss_is_refused(tse_config, entry):
    entry = {"name": "si_snr", "wrapper": "fixed_order"} | entry
    with pytest.raises(UserError, match="no criterion with a weight above 0 is trained on"):
        build_extraction_model(tse_config | {"criterions": [entry]}, "train.yaml")


@pytest.mark.parametrize(
    "labels", [[], ["ang"], ["ang", "ang"], "ang", ["a b", "c"], ["a,b", "c"], [1, 2], None, {}]
)
def test_labels(ser_config, labels):
    with pytest.raises(UserError, match="^train.yaml: labels: "):
        build_ser_model(ser_config | {"labels": labels}, "train.yaml")
