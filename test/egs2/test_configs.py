"""Every configuration of every recipe is parsed by its task and builds its model."""

import copy
import fnmatch
import functools
import re
from pathlib import Path

import pytest
import torch
from espnet2.tasks.abs_task import scheduler_classes
from recipes import named_sweeps

from espnet_tse_ser import strict_yaml
from espnet_tse_ser.configuration import chain, merge, read_configuration
from espnet_tse_ser.mixtures.variations import read_variation
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.recognise.pretrained import pretraining_of
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.training.schedulers import in_steps

ROOT = Path(__file__).parents[2]
KINDS = ("tse", "se", "se_ssl", "ssl", "ser", "tse_ser")


def configs(kind):
    """Configurations ``train_<kind>*.yaml`` that are no links, relative to the repository."""
    found = sorted(ROOT.glob(f"egs2/*/*_ser1/conf/**/train_{kind}*.yaml"))
    other = "_ser|_ssl" if kind == "se" else "_ser"
    found = [p for p in found if re.match(rf"train_{kind}(?!{other})[_.]", p.name)]
    return [str(p.relative_to(ROOT)) for p in found if not p.is_symlink()]


def parse(task, path):
    return parse_task_options(task, ["--config", str(ROOT / path), "--output_dir", "unused"])


def test_every_configuration_is_of_a_known_kind():
    known = {name for kind in KINDS for name in configs(kind)}
    found = {str(p.relative_to(ROOT)) for p in ROOT.glob("egs2/*/*_ser1/conf/**/*.yaml")}
    found = {n for n in found if "/sweeps/" not in n and "/systems/" not in n}
    links = {n for n in found if (ROOT / n).is_symlink()}
    assert found - links == known
    assert all((ROOT / link).resolve().is_file() for link in links)


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_of_every_configuration_is_one_that_is_meant(kind):
    """What is read is what is taken: no text for a number, no number out of its range."""
    from espnet_tse_ser.tasks.ser import SERTask
    from espnet_tse_ser.tasks.ssl import SSLTask
    from espnet_tse_ser.tasks.ssl_enhancement import SSLEnhancementTask
    from espnet_tse_ser.tasks.tse import TSETask
    from espnet_tse_ser.tasks.tse_ser import TSESERTask

    task = {"tse": TSETask, "se": TSETask, "ser": SERTask, "tse_ser": TSESERTask}
    task = (task | {"ssl": SSLTask, "se_ssl": SSLEnhancementTask})[kind]
    for path in configs(kind):
        options = vars(parse(task, path))
        for key, value in read(path).items():
            if isinstance(value, dict):
                assert {k: plain(options[key][k]) for k in value} == value, (path, key)
            elif key == "criterions":
                assert [entry["name"] for entry in options[key]] == [e["name"] for e in value]
            elif key == "keep_nbest_models":
                assert options[key] == [value]
            else:
                assert plain(options[key]) == value, (path, key)


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", [n for kind in KINDS for n in configs(kind)])
def test_a_configuration_on_another_says_only_what_differs(path):
    """Without any of its lines it would be another."""
    base = chain(ROOT / path)[1:]
    if not base:
        return
    base = read_configuration(base[0])
    own = strict_yaml.parse((ROOT / path).read_text(), path)
    del own["base"]
    whole = merge(base, own)
    for keys in leaves(own):
        less = copy.deepcopy(own)
        inner = functools.reduce(dict.get, keys[:-1], less)
        del inner[keys[-1]]
        assert merge(base, less) != whole, (path, keys)


def leaves(mapping):
    """The keys to each value that is no mapping."""
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in leaves(value))
        else:
            yield (key,)


def test_test_variations():
    paths = sorted(ROOT.glob("egs2/TEMPLATE/common/conf/sweeps/*.yaml"))
    assert len(paths) > 20
    variations = {path.stem: read_variation(path) for path in paths}
    for variation in variations.values():
        assert variation.about.endswith(".") and variation.sweep
    for recipe, count in (("iemocap_mix", 22), ("mini_iemocap_mix", 8)):
        patterns = named_sweeps(ROOT / "egs2" / recipe / "tse_ser1").split()
        named = {name for pattern in patterns for name in fnmatch.filter(variations, pattern)}
        assert len(named) == count
        for variation in (variations[name] for name in named):
            if variation.sources == "emo":
                # a session has one speaker of each gender: nobody else of the same
                assert variation.gender_state is None and variation.talkers is None


@pytest.mark.parametrize("path", configs("tse"))
def test_tse(path):
    from espnet_tse_ser.tasks.tse import TSETask

    options = parse(TSETask, path)
    config = vars(options) | {"model_conf": {**options.model_conf, "num_speakers": 7}}
    model = build_extraction_model(config)
    names = dict(model.named_parameters())
    if options.extractor == "spectral":
        assert len(model.extractor.first) == options.extractor_conf["i_adapt_layer"]
        return
    # The adaptation lies after the first repeat (arXiv 2409.19585, section 2).
    tcn = options.extractor_conf
    assert tcn["i_adapt_layer"] == tcn["layer"] - 1
    assert names["encoder.conv1d.weight"].shape[0] == options.encoder_conf["channel"]


@pytest.mark.parametrize("path", configs("se"))
def test_se(path):
    from espnet_tse_ser.tasks.tse import TSETask

    options = parse(TSETask, path)
    model = build_extraction_model(vars(options))
    assert not model.needs_enrollment and options.mixing_conf["enroll_segment"] is None
    assert options.mixing_conf["levels"] == "snr" and "clean" in options.mixing_conf["snr_set"]


@pytest.mark.parametrize("path", configs("ssl"))
def test_ssl(path):
    from espnet_tse_ser.tasks.ssl import SSLTask

    options = parse(SSLTask, path)
    model = SSLTask.build_model(options)
    size = sum(p.numel() for p in model.frontend.ssl.parameters())
    assert size < 4e6 and options.mixing_conf["enroll_segment"] is None


@pytest.mark.parametrize("path", configs("se_ssl"))
def test_se_ssl(path):
    from espnet_tse_ser.tasks.ssl_enhancement import SSLEnhancementTask

    options = parse(SSLEnhancementTask, path)
    options.frontend_conf = with_pretrained(options, path)
    with torch.device("meta"):
        model = SSLEnhancementTask.build_model(options)
    options.scheduler_conf = in_steps(options.scheduler_conf, 100)
    SSLEnhancementTask.build_optimizers(options, model)
    assert options.frontend_conf["weights"] is None


def with_pretrained(options, path):
    """``frontend_conf`` of an SSL front-end without its weights, which are somewhere else."""
    conf, pretraining = options.frontend_conf, pretraining_of(vars(options))
    if pretraining is not None:
        recipe = Path(path).parent if "/tuning/" not in path else Path(path).parents[1]
        conf = conf | {
            "arch": "custom",
            "arch_conf": read(recipe.parent / pretraining)["arch_conf"],
        }
    return conf | {"weights": None}


@pytest.mark.parametrize("percent", [10, 50])
def test_shares_of_pretraining_data_differ_in_nothing_else(percent):
    conf = ROOT / "egs2/ravdess_mix/tse_ser1/conf"
    expected = read_configuration(conf / "train_tse.yaml")
    expected["mixing_conf"]["speaker_share"] = percent / 100
    assert read_configuration(conf / f"tuning/train_tse_{percent}pct.yaml") == expected


@pytest.mark.parametrize("path", configs("ser"))
def test_ser(path):
    from espnet_tse_ser.tasks.ser import SERTask

    options = parse(SERTask, path)
    if options.frontend == "ssl":
        options.frontend_conf = with_pretrained(options, path)
    # An SSL model is made in its true size, but without memory for it.
    with torch.device("meta" if options.frontend == "ssl" else "cpu"):
        model = build_ser_model(vars(options))
    assert model.classifier.out_features == len(options.labels)
    assert options.encoder_conf.keys() <= KNOWN[options.encoder], "an option without effect"


# What a configuration may say about each encoder; num_heads is for self-attention only.
KNOWN = {
    "shift_cnn": {"shift", "ndiv", "dropout"},
    "shift_lstm": {"shift", "ndiv", "dropout"},
    "shiftformer": {"shift", "ndiv", "dropout", "num_heads"},
    "cnn6": {"planes"},
    "identity": set(),
}
TUNING = {
    "iemocap": ("egs2/iemocap_mix/tse_ser1/conf/tuning/train_ser_hubert_base_frozen", {}),
    "ravdess": ("egs2/ravdess_mix/tse_ser1/conf/tuning/train_ser", {"dropout": 0.1}),
}
BACK_ENDS = {
    "shift_cnn": ("shift_cnn", {"ndiv": 16}),
    "cnn": ("shift_cnn", {"shift": False}),
    "shift_lstm": ("shift_lstm", {"ndiv": 4}),
    "lstm": ("shift_lstm", {"shift": False}),
    "shiftformer": ("shiftformer", {"ndiv": 4}),
    "transformer": ("shiftformer", {"shift": False}),
}


def read(path):
    return read_configuration(ROOT / path)


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("recipe", TUNING)
def test_back_ends_differ_in_their_encoder_alone(recipe, back_end):
    prefix, more = TUNING[recipe]
    shift_cnn = {"iemocap": f"{prefix}.yaml", "ravdess": f"{prefix}.yaml".replace("tuning/", "")}
    other = read(shift_cnn[recipe])
    config = other if back_end == "shift_cnn" else read(f"{prefix}_{back_end}.yaml")
    encoder, conf = BACK_ENDS[back_end]
    heads = {"iemocap": 12, "ravdess": 8}[recipe]
    conf = conf | more | ({"num_heads": heads} if back_end == "transformer" else {})
    assert (config.pop("encoder"), config.pop("encoder_conf")) == (encoder, conf)
    assert config == {k: v for k, v in other.items() if k not in ("encoder", "encoder_conf")}


@pytest.mark.parametrize("path", configs("ser"))
def test_steps_of_ser(path):
    """All but the size of an SSL model, and so of what is behind it, is as configured."""
    from espnet_tse_ser.tasks.ser import SERTask

    torch.manual_seed(0)
    options = parse(SERTask, path)
    if options.frontend == "ssl":
        layers = 24 if "LARGE" in options.frontend_conf["arch"] else 1
        arch = TINY_SSL | {"encoder_num_layers": layers}
        tiny = {"arch": "custom", "arch_conf": arch, "weights": None}
        pretrained = pretraining_of(vars(options)) is not None
        conf = with_pretrained(options, path) if pretrained else options.frontend_conf | tiny
        options.frontend_conf = conf
    options.scheduler_conf = in_steps(options.scheduler_conf, 100)
    finetune = options.frontend_conf.get("finetune", False)
    model = SERTask.build_model(options).train()
    (optimizer,) = SERTask.build_optimizers(options, model)
    if options.scheduler is not None:
        scheduler = scheduler_classes[options.scheduler](optimizer, **options.scheduler_conf)
    batch = {"emotion": torch.tensor([[0], [1]])}
    for name in (*model.inputs, *model.targets):
        stream = torch.randn(2, model.pooling.output_size() if name == "embedding" else 8000)
        batch |= {name: 0.1 * stream, f"{name}_lengths": torch.tensor([8000, 6000])}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(2):  # the first one may be done with a rate of 0
        optimizer.zero_grad()
        model(**batch)[0].backward()
        optimizer.step()
        if options.scheduler == "reducelronplateau":
            scheduler.step(0.5)  # what it waits for
        elif options.scheduler is not None:
            scheduler.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    for name in before:
        part = name.split(".")[0]
        if part in ("specaug", "encoder", "classifier"):
            assert name in changed or name.endswith("key.bias"), name  # moves all scores alike
    assert finetune == any(k.startswith("frontend.ssl.encoder.") for k in changed)


TINY_SSL = {
    "type": "hubert",
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 10), (8, 8, 32)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 96,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 1,
    "encoder_num_heads": 12,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("hubert_base_frozen", {0: 5e-7, 127: 1.004e-4, 12700: 5e-6, 20000: 5e-6}),
        ("wav2vec2_base_finetune_cosine", {0: 5e-7, 6350: 2.525e-4, 12700: 5e-6}),
        ("wav2vec2_base_finetune_nominal", {0: 0, 127: 1e-4, 635: 5e-4, 1270: 5e-4, 12700: 0}),
        # By epochs: this is what ShiftSER's code did.
        ("wav2vec2_base_finetune", {0: 0, 1: 7.194e-7, 50: 3.597e-5, 99: 7.122e-5}),
    ],
)
def test_rates(name, rates):
    from espnet_tse_ser.tasks.ser import SERTask

    options = parse(SERTask, f"egs2/iemocap_mix/tse_ser1/conf/tuning/train_ser_{name}.yaml")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], options.optim_conf["lr"])
    conf = in_steps(options.scheduler_conf, 127)
    scheduler = scheduler_classes[options.scheduler](optimizer, **conf)
    for step, rate in rates.items():
        scheduler.last_epoch = step  # thousands of steps take seconds
        assert scheduler.get_lr() == [pytest.approx(rate, rel=1e-3, abs=1e-12)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_ends_with_its_training(kind):
    """In epochs, so that it does on any data; but for figures that are published."""
    for path in configs(kind):
        conf = read(path)
        lengths = [conf.get("scheduler_conf", {}).get(key) for key in ("max_steps", "total")]
        length = next(filter(None, lengths), None)
        if length is None or conf["scheduler"] == "trapezoid_per_epoch":
            continue
        if "ravdess_mix" in path and isinstance(length, int):
            assert length == {"ser": 540, "tse_ser": 924}[kind]
        else:
            assert length == f"{conf['max_epoch']} epochs", path


@pytest.mark.parametrize("path", configs("tse_ser"))
def test_joint(path):
    from espnet_tse_ser.models.build_joint import build_joint_model
    from espnet_tse_ser.tasks.tse_ser import TSESERTask

    options = parse(TSESERTask, path)
    recipe = "egs2/mini_iemocap_mix/tse_ser1/conf"
    tse, ser = (read(f"{recipe}/train_{kind}_debug.yaml") for kind in ("tse", "ser"))
    tse["model_conf"] = {}
    config = {"tse": tse, "ser": {"labels": ["ang", "neu"]} | ser}
    model = build_joint_model(config | {"model_conf": options.model_conf})
    assert (model.w_tse, model.w_ser) == (1.0, 1.0)
