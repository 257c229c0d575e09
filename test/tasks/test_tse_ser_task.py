"""TSESERTask: the recipes' configurations, rebuilding from config.yaml, data of a fold."""

import shutil
from pathlib import Path

import pytest
import tiny_ssl
import torch
import yaml

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.espnet_tse_ser_model import ESPnetTSESERModel
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.tasks.tse_ser import TSESERTask
from espnet_tse_ser.training.preprocessor import UNLABELLED

EGS = Path(__file__).parents[2] / "egs2"
CONFIGS = sorted(
    {p.resolve() for p in EGS.glob("*/tse_ser1/conf/**/train_tse_ser*.yaml") if p.is_file()}
)


@pytest.fixture
def options(tmp_path, tiny_mixtures, joint_config):
    def parse(*further):
        options = parse_task_options(
            TSESERTask,
            ["--output_dir", str(tmp_path / "exp"), "--batch_size", "4"]
            + ["--data_dir", f"{tiny_mixtures}/mix", "--targets", f"{tiny_mixtures}/emo"]
            + ["--sources", f"{tiny_mixtures}/interferer"]
            + ["--split", f"{tiny_mixtures}/table/splits/fold1", *further],
        )
        options.tse, options.ser = dict(joint_config["tse"]), dict(joint_config["ser"])
        return options

    return parse


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parts[-4]}-{p.stem}")
def test_configurations_of_the_recipes(path, joint_config):
    options = parse_task_options(TSESERTask, ["--config", str(path)])
    config = joint_config | {"model_conf": options.model_conf}
    assert isinstance(build_joint_model(config), ESPnetTSESERModel)


def test_there_are_configurations_of_the_recipes():
    assert CONFIGS


def test_training_draws_from_the_training_side_alone(options, tiny_mixtures):
    factory = TSESERTask.build_task_iter_factory(options(), None, "train")
    train = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / "train.lst")
    mixtures = {m.mixture: m for m in read_mixtures(tiny_mixtures / "mix" / "mixtures.tsv")}
    wanted = {s.group for i in train for s in mixtures[i].sources}
    source = next(argument for argument in factory.draw.args if hasattr(argument, "example"))
    assert {group for groups in source.groups.values() for group in groups} == wanted
    assert set(source.targets.entries) == set(train)
    epochs = [list(factory.build_iter(epoch)) for epoch in (1, 1, 2)]
    for batches in epochs:
        assert sorted(uid for ids, _ in batches for uid in ids) == train  # each once, whole
        for ids, batch in batches:
            assert len(ids) <= 4
            labels = [options().ser["labels"][i] for i in batch["emotion"][:, 0]]
            assert labels == [mixtures[i].emotion for i in ids]
    first, again, second = (
        {uid: row for ids, batch in b for uid, row in zip(ids, batch["speech_mix"], strict=True)}
        for b in epochs
    )
    assert all(torch.equal(first[u], again[u]) for u in train)
    assert not all(
        first[u].shape == second[u].shape and torch.equal(first[u], second[u]) for u in train
    )


def mixtures_of(factory):
    return next(argument for argument in factory.draw.args if hasattr(argument, "example"))


def test_other_speakers_of_the_training_side_interfere(options, tiny_mixtures):
    given = options("--mixing_conf", "emo_share=0.5")
    mixtures = mixtures_of(TSESERTask.build_task_iter_factory(given, None, "train"))
    train = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / "train.lst")
    own = {u for u in mixtures.sources.entries if u in Pool.read(given.targets).entries}
    assert own == set(train) and len(mixtures.sources) > len(own)


@pytest.mark.parametrize("whole", [False, True])
def test_a_tested_speaker_is_no_interferer(options, tiny_mixtures, tmp_path, whole):
    """One utterance of a test speaker, or all of them, got into the training list."""
    split = shutil.copytree(tiny_mixtures / "table" / "splits" / "fold1", tmp_path / "split")
    leaked = read_ids(split / "test.lst")[: None if whole else 1]
    ids = sorted([*read_ids(split / "train.lst"), *leaked])
    (split / "train.lst").write_text("".join(f"{i}\n" for i in ids))
    given = options("--mixing_conf", "emo_share=0.5", "--split", str(split))
    with pytest.raises(UserError, match="violation") as error:
        TSESERTask.build_task_iter_factory(given, None, "train")
    lines = [line for line in error.value.details if f"train mixture '{leaked[0]}' is also" in line]
    assert lines and "target speaker" in lines[0] and str(split) in lines[0]


def test_who_is_not_of_the_corpus_has_no_emotion(options, two_each):
    given = options("--sources", str(two_each), "--mixing_conf", "swap_share=0.5")
    assert given.unused_parameters
    factory = TSESERTask.build_task_iter_factory(given, None, "train")
    emotions = torch.cat([batch["emotion"][:, 0] for _, batch in factory.build_iter(1)])
    assert {UNLABELLED} < {*emotions.tolist()} <= {UNLABELLED, 0, 1, 2, 3}
    dev = TSESERTask.build_task_iter_factory(given, None, "valid")
    assert all((batch["emotion"] >= 0).all() for _, batch in dev.build_iter(1))


def test_absent_targets(options):
    given = options("--mixing_conf", "absent_share=0.5")
    assert given.unused_parameters
    factory = TSESERTask.build_task_iter_factory(given, None, "train")
    for _, batch in factory.build_iter(1):
        absent = batch["absent"][:, 0] == 1
        assert torch.equal(batch["emotion"][:, 0] == UNLABELLED, absent)
        assert torch.equal(batch["speech_ref1"].any(dim=1), ~absent)
    dev = TSESERTask.build_task_iter_factory(given, None, "valid")
    assert all("absent" not in batch for _, batch in dev.build_iter(1))
    # SI-SNR does not mind if all outputs sink.
    with pytest.raises(
        UserError, match="absent_share needs a criterion .* trained on si_snr alone"
    ):
        TSESERTask.build_model(given)
    levelled = {"name": "thresholded_snr", "wrapper": "fixed_order"}
    given.tse["criterions"] = [levelled | {"conf": {}, "wrapper_conf": {}}]
    TSESERTask.build_model(given)
    measures = TSESERTask.measures(given)
    assert "absent_level" in measures["train"] and "absent_level" not in measures["valid"]


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (
            ["--mixing_conf", "swap_share=0.5", "--model_conf", "freeze_tse=true"],
            "mixing_conf: swap_share and absent_share train the extraction, which model_conf",
        ),
        (["--mixing_conf", "dynamic=false"], "emo_share is of fresh mixtures, and dynamic is"),
        (["--mixing_conf", "emo_share=1.5"], "emo_share: expected a number of 0 or more"),
        (["--sources", "none"], "emo_share: there are no sources; give --sources"),
        (["--sources", "{root}/emo"], "emo_share: .*emo are speakers of that corpus already"),
    ],
)
def test_a_share_that_cannot_be(options, tiny_mixtures, further, message):
    further = [part.format(root=tiny_mixtures) for part in further]
    with pytest.raises(UserError, match=message):
        given = options("--mixing_conf", "emo_share=0.5", *further)
        TSESERTask.build_task_iter_factory(given, None, "train")


@pytest.mark.parametrize(("mode", "further"), [("valid", []), ("train", ["dynamic=false"])])
def test_rendered_mixtures_are_those_of_the_table(options, tiny_mixtures, mode, further):
    import soundfile

    further = ["--mixing_conf", *further] if further else []
    factory = TSESERTask.build_task_iter_factory(options(*further), None, mode)
    side = {"valid": "dev", "train": "train"}[mode]
    wanted = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / f"{side}.lst")
    seen = []
    for ids, batch in factory.build_iter(5):
        seen += ids
        for uid, row, n in zip(ids, batch["speech_mix"], batch["speech_mix_lengths"], strict=True):
            path = tiny_mixtures / "mix" / "audio" / "mix" / f"{uid}.flac"
            expected, _ = soundfile.read(path, dtype="float32")
            assert torch.equal(row[:n], torch.from_numpy(expected))
    assert sorted(seen) == wanted


def test_weights_from_files_are_not_needed_again(tmp_path, options, tse_dir, joint_config):
    conf = {"arch": "custom", "arch_conf": tiny_ssl.ARCH, "weights": None}
    ser = joint_config["ser"] | {"frontend": "ssl", "frontend_conf": conf, "preencoder": None}
    ssl = build_ser_model(ser).frontend.ssl
    weights = tmp_path / "ssl.pt"
    torch.save(ssl.state_dict(), weights)
    args = options("--tse_weights", str(tse_dir / "valid.loss.best.pth"))
    args.ser = ser | {"frontend_conf": conf | {"weights": str(weights)}}
    trained = TSESERTask.build_model(args)
    written = yaml.safe_load(yaml.safe_dump({"tse": args.tse, "ser": args.ser}))
    assert args.tse_weights is None and str(tmp_path) not in yaml.safe_dump(written)
    weights.unlink()
    rebuilt = build_joint_model(written | {"model_conf": args.model_conf})
    rebuilt.load_state_dict(trained.state_dict())
    for name, value in ssl.state_dict().items():
        assert torch.equal(value, rebuilt.ser_model.frontend.ssl.state_dict()[name])


def test_a_recogniser_of_one_length_wants_whole_targets(options, joint_config):
    args = options("--mixing_conf", "max_samples=8000")
    args.ser["frontend_conf"] = args.ser["frontend_conf"] | {"fixed_seconds": 0.4}
    with pytest.raises(UserError, match="takes the first 0.4 s .* set max_samples to null"):
        TSESERTask.build_model(args)
    args.mixing_conf["max_samples"] = None
    assert TSESERTask.build_model(args).ser_model.frontend.fixed_samples == 6400


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--no_such_option", "1"], "unrecognized arguments: --no_such_option"),
        (["--batch_size", "many"], "--batch_size: expected a whole number"),
        (["--mixing_conf", "level=snr"], "mixing_conf: unknown key 'level'; known: dynamic"),
        (["--split", "absent"], "absent/train.lst: no such list of ids; run stage 2"),
        (["--data_dir", "absent"], "absent/wav.scp: no such file"),
        (["--targets", "absent"], "absent/wav.scp: no such file"),
    ],
)
def test_wrong_options_are_user_errors(options, further, message):
    with pytest.raises(UserError, match=message):
        TSESERTask.build_task_iter_factory(options(*further), None, "train")
