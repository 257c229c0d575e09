"""Stage 6: a pretraining of seconds; it repeats, resumes and can be loaded."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny_corpora import write_noise
from tiny_experiments import assert_measures
from two_processes import assert_close, train_in_two

from espnet_tse_ser.bin import tse_train
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.extraction import extract, load_extraction_model
from espnet_tse_ser.frontends.loading import load_front_end
from espnet_tse_ser.frontends.model_files import files_of
from espnet_tse_ser.models.speaker_encoder import SpeakerEncoder
from espnet_tse_ser.training.checkpoints import read_config

MIXING = {
    "segment": 3200,
    "enroll_segment": 3200,
    "steps_per_epoch": 2,
    "valid_examples": 3,
    "valid_share": 0.2,
}
TRAINING = {
    "model_conf": {"speaker_loss_weight": 0.5},
    "mixing_conf": MIXING,
    "batch_size": 2,
    "optim": "adam",
    "optim_conf": {"lr": 0.01},
    "max_epoch": 2,
    "best_model_criterion": [["valid", "loss", "min"]],
    "keep_nbest_models": 1,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory, tse_config):
    path = tmp_path_factory.mktemp("conf") / "train_tse.yaml"
    path.write_text(yaml.safe_dump(tse_config | TRAINING))
    return path


@pytest.fixture(scope="module")
def train(config, tiny_pool):
    def run(output_dir, *further, seed=1, pool=tiny_pool, config=config, main=tse_train.main):
        options = {"config": config, "pool": pool, "output_dir": output_dir, "seed": seed}
        command = [str(o) for name, value in options.items() for o in (f"--{name}", value)]
        main([*command, *further])
        return output_dir

    return run


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("tse") / "whole")


def _weights(directory, name="latest.pth"):
    return torch.load(directory / name, weights_only=True)


def _equal(first, second):
    return all(torch.equal(first[k], second[k]) for k in first.keys() | second.keys())


def test_the_result_can_be_loaded(whole, tse_config):
    rows = read_tsv(whole / "epochs.tsv", ["train_si_snr_loss", "train_speaker_acc", "valid_loss"])
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["valid_loss"] != rows[1]["valid_loss"]
    assert (whole / "checkpoint.pth").exists() and not list(whole.glob(".tmp*"))
    config = read_config(whole)
    assert config["model_conf"]["num_speakers"] == 4  # of six, one of each gender is held out
    assert config["extractor_conf"] == tse_config["extractor_conf"]
    model, fs = load_extraction_model(whole)
    best = min(rows, key=lambda row: float(row["valid_loss"]))["epoch"]
    saved = _weights(whole, f"{best}epoch.pth")
    assert fs == 16000 and _equal(
        model.state_dict(), {k: v for k, v in saved.items() if "speaker_classifier" not in k}
    )


def test_what_is_measured_is_known_before(whole):
    from espnet_tse_ser.tasks.tse import TSETask

    assert_measures(TSETask, whole)


def test_the_same_seed_gives_the_same_weights(train, whole, tmp_path):
    again = train(tmp_path / "again")
    assert _equal(_weights(again), _weights(whole))
    assert (again / "epochs.tsv").read_text() == (whole / "epochs.tsv").read_text()
    other = train(tmp_path / "other", "--max_epoch", "1", seed=2)
    assert not _equal(_weights(other), _weights(again))


def test_a_resumed_training_gives_the_same_weights(train, whole, tmp_path):
    parts = train(tmp_path / "parts", "--max_epoch", "1")
    assert not _equal(_weights(parts), _weights(whole))
    train(tmp_path / "parts")
    assert _equal(_weights(parts), _weights(whole))
    assert (parts / "epochs.tsv").read_text() == (whole / "epochs.tsv").read_text()


def test_two_processes_train_as_one(train, whole, tmp_path):
    def train_two(command):
        statuses, logs = train_in_two(tse_train.main, command, tmp_path / "logs")
        assert statuses == [0, 0], logs

    assert_close(train(tmp_path / "two", main=train_two), whole)


def test_a_schedule_in_epochs_is_one_in_steps(train, tse_config, tmp_path):
    for name, steps in (("epochs", "2 epochs"), ("steps", 4)):
        schedule = {"scheduler": "tristagelr", "scheduler_conf": {"max_steps": steps}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tse_config | TRAINING | schedule))
        train(tmp_path / name, config=tmp_path / f"{name}.yaml")
    assert read_config(tmp_path / "epochs")["scheduler_conf"]["max_steps"] == 4
    assert _equal(_weights(tmp_path / "epochs"), _weights(tmp_path / "steps"))


def test_a_training_starts_from_the_weights_of_another(train, whole, tse_config, tmp_path):
    still = tmp_path / "still.yaml"
    still.write_text(yaml.safe_dump(tse_config | TRAINING | {"optim_conf": {"lr": 1e-30}}))
    further = ["--max_epoch", "1", "--tse_weights", str(whole / "latest.pth")]
    assert _equal(_weights(train(tmp_path / "still", *further, config=still)), _weights(whole))
    assert read_config(tmp_path / "still")["tse_weights"] is None
    other = tse_config["extractor_conf"] | {"hidden_dim": 8}
    still.write_text(yaml.safe_dump(tse_config | TRAINING | {"extractor_conf": other}))
    with pytest.raises(UserError, match="latest.pth: weights of another architecture"):
        train(tmp_path / "other", *further, config=still)
    with pytest.raises(UserError, match="none.pth"):
        train(tmp_path / "none", "--tse_weights", str(tmp_path / "none.pth"))


def test_a_speaker_encoder_is_added_to_the_weights_of_another(train, whole, tse_config, tmp_path):
    conf = {"model_conf": TRAINING["model_conf"] | {"speaker_encoder": "resemblyzer"}}
    still = tmp_path / "still.yaml"
    still.write_text(yaml.safe_dump(tse_config | TRAINING | conf | {"optim_conf": {"lr": 1e-30}}))
    weights = ["--max_epoch", "1", "--tse_weights"]
    added = _weights(train(tmp_path / "still", *weights, str(whole / "latest.pth"), config=still))
    plain, theirs = _weights(whole), SpeakerEncoder()
    theirs.load_pretrained()
    assert _equal({k: added[k] for k in plain}, plain)
    for name, value in theirs.state_dict().items():
        assert torch.equal(added[f"speaker_encoder.{name}"], value)
    assert not added["speaker_projection.weight"].abs().max() > 1e-20
    with pytest.raises(UserError, match=r"another architecture.*'speaker_\w+\.\S+' \(unknown"):
        train(tmp_path / "less", *weights, str(tmp_path / "still" / "latest.pth"))


def test_a_finished_training_is_not_touched(train, whole):
    before = {p.name: p.stat().st_mtime_ns for p in whole.glob("*.pth")}
    train(whole)
    assert {p.name: p.stat().st_mtime_ns for p in whole.glob("*.pth")} == before


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("noise"))


WITHOUT = {"mixing_conf": MIXING | {"enroll_segment": None, "snr_set": ["clean", 5]}}


def test_an_enhancement_model(train, enhancer_config, noise, tmp_path):
    """Noise disturbs, nothing is enrolled; it repeats, resumes and can be loaded."""
    path = tmp_path / "train_se.yaml"
    path.write_text(yaml.safe_dump(enhancer_config | TRAINING | WITHOUT | {"model_conf": {}}))
    more = ["--noise", str(noise)]
    whole = train(tmp_path / "whole", *more, config=path)
    train(tmp_path / "parts", *more, "--max_epoch", "1", config=path)
    assert _equal(_weights(train(tmp_path / "parts", *more, config=path)), _weights(whole))
    assert read_config(whole)["noise"] == str(noise)
    rows = read_tsv(whole / "epochs.tsv", ["train_si_snr_loss", "valid_loss"])
    assert rows[0]["valid_loss"] != rows[1]["valid_loss"]
    front_end = load_front_end(whole)
    assert not front_end.needs_enrollment and not files_of(whole).needs_enrollment
    (estimate,) = extract(front_end, [np.random.default_rng(0).standard_normal(4000) / 10])
    assert estimate.shape == (4000,)
    # Speakers disturb one another where there is no noise.
    others = train(tmp_path / "others", "--max_epoch", "1", config=path)
    assert read_tsv(others / "epochs.tsv")[0]["valid_loss"] != rows[0]["valid_loss"]


def test_an_extraction_model_with_noise(train, noise, tmp_path, whole):
    noisy = train(tmp_path / "noisy", "--noise", str(noise), "--max_epoch", "1")
    first, other = (read_tsv(exp / "epochs.tsv")[0]["valid_loss"] for exp in (noisy, whole))
    assert first != other


def test_targets_alone_and_absent(train, tse_config, noise, tmp_path):
    """Of what is measured there is one more thing; it repeats and resumes."""
    from espnet_tse_ser.tasks.tse import TSETask

    shares = {"mixing_conf": MIXING | {"alone_share": 0.3, "absent_share": 0.5}}
    levelled = [{"name": "thresholded_snr", "wrapper": "fixed_order"}]
    path, more = tmp_path / "train_tse.yaml", ["--noise", str(noise)]
    path.write_text(yaml.safe_dump(tse_config | TRAINING | shares | {"criterions": levelled}))
    whole = train(tmp_path / "whole", *more, config=path)
    train(tmp_path / "parts", *more, "--max_epoch", "1", config=path)
    assert _equal(_weights(train(tmp_path / "parts", *more, config=path)), _weights(whole))
    assert_measures(TSETask, whole)
    rows = read_tsv(whole / "epochs.tsv", ["train_absent_level", "valid_absent_level"])
    assert all(-30 < float(row["valid_absent_level"]) < 10 for row in rows)


ABSENT = {"mixing_conf": WITHOUT["mixing_conf"] | {"absent_share": 0.1}, "model_conf": {}}


@pytest.mark.parametrize(
    ("extractor", "changes", "message"),
    [
        ("tcn", ABSENT, "mixing_conf: absent_share is of enrollments, which extractor tcn has not"),
        (
            "td_speakerbeam",
            {"mixing_conf": MIXING | {"absent_share": 0.1}},
            "mixing_conf: absent_share needs a criterion .* level .* trained on si_snr alone",
        ),
        ("tcn", {}, "mixing_conf: extractor tcn takes no enrollment; give enroll_segment: null"),
        ("td_speakerbeam", WITHOUT, "mixing_conf: extractor td_speakerbeam needs enrollments; giv"),
        ("tcn", WITHOUT, "speaker_loss_weight > 0 needs an extractor with enrollments"),
    ],
)
def test_enrollments_are_there_where_they_are_used(
    train, tse_config, enhancer_config, tmp_path, extractor, changes, message
):
    config = {"tcn": enhancer_config, "td_speakerbeam": tse_config}[extractor]
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config | TRAINING | changes))
    with pytest.raises(UserError, match=message):
        train(tmp_path / "exp", config=path)


def test_errors_name_what_is_wrong(train, tmp_path, config, tse_config):
    with pytest.raises(UserError, match="unrecognized arguments: --max_epochs 3"):
        train(tmp_path / "exp", "--max_epochs", "3")
    with pytest.raises(UserError, match="none.yaml: no such configuration"):
        train(tmp_path / "exp", config=tmp_path / "none.yaml")
    with pytest.raises(UserError, match="none/wav.scp: no such file"):
        train(tmp_path / "exp", pool=tmp_path / "none")
    for changes, message in (
        ({"mixing_conf": MIXING | {"segments": 1}}, "mixing_conf: unknown key 'segments'; known"),
        (
            {"mixing_conf": MIXING | {"segment": 160000}},
            "pretrain0: 0 speaker.s. have a segment of 160000",
        ),
        ({"extractor_conf": {"layers": 2}}, "layers"),
        ({"no_such_key": 1}, "train_tse.yaml: unknown key 'no_such_key'"),
        (
            {"scheduler": "tristagelr", "scheduler_conf": {"max_steps": 9}},
            "train_tse.yaml: scheduler_conf: max_steps is 9 steps, but the training has 4: 2 "
            "epochs of 2; give max_steps: 2 epochs",
        ),
        ({"accum_grad": 3}, "train_tse.yaml: accum_grad: 3 .* an epoch has 2 .steps_per_epoch"),
        (
            {"scheduler": "onecyclelr", "scheduler_conf": {"max_lr": 0.1, "total_steps": 3}},
            "total_steps is 3 steps, but the training has 4: 2 epochs of 2; give total_steps",
        ),
    ):
        path = tmp_path / "train_tse.yaml"
        path.write_text(yaml.safe_dump(tse_config | TRAINING | changes))
        with pytest.raises(UserError, match=message):
            train(tmp_path / "exp", config=path)
    assert not list((tmp_path / "exp").glob("*.pth"))


@pytest.mark.parametrize("damage", ["architecture", "truncated"])
def test_a_checkpoint_that_does_not_fit_is_one_clear_error(whole, train, tmp_path, damage):
    output_dir = tmp_path / "other"
    output_dir.mkdir()
    if damage == "truncated":
        content = (whole / "checkpoint.pth").read_bytes()
        (output_dir / "checkpoint.pth").write_bytes(content[: len(content) // 2])
        further = ()
    else:
        shutil.copy(whole / "checkpoint.pth", output_dir)
        further = ("--encoder_conf", "channel=24", "--decoder_conf", "channel=24")
    with pytest.raises(UserError, match=r"checkpoint.pth: .*remove .*other to train from the"):
        train(output_dir, *further)
