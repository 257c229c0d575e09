"""Atomic checkpoints, epochs.tsv and the whole-set scores of `EmotionTrainer`."""

import datetime
import io
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from evil_files import EVIL, write_evil
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.metrics.emotion import ua
from espnet_tse_ser.training import interruption
from espnet_tse_ser.training import trainer as espnet
from espnet_tse_ser.training.trainer import EmotionTrainer, ExtractionTrainer


class EmotionModel(AbsESPnetModel):
    """Its logits are its input."""

    labels = ["ang", "hap", "neu", "sad"]

    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(4))
        self.reset_predictions()

    def reset_predictions(self):
        self.predictions = []

    def forward(self, logits, emotion, **kwargs):
        logits = logits + self.offset
        loss = torch.nn.functional.cross_entropy(logits, emotion[:, 0])
        pairs = zip(emotion[:, 0].tolist(), logits.argmax(1).tolist(), strict=True)
        if not self.training:
            self.predictions += pairs
        return loss, {"loss": loss.detach()}, torch.tensor(len(logits))

    def collect_feats(self, **kwargs):
        return {}


class Batches(AbsIterFactory):
    """Batches of 7, 7 and 1: their mean recall is not the recall of the whole."""

    def __init__(self, seed, starts=(0, 7, 14, 15)):
        self.starts = starts
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(15, 4, generator=generator)
        self.emotion = torch.tensor([[0]] * 8 + [[1]] * 2 + [[2]] * 1 + [[3]] * 4)
        self.logits[range(15), self.emotion[:, 0]] += 1.0

    def build_iter(self, epoch, shuffle=None):
        for part in map(slice, self.starts, self.starts[1:]):
            ids = [str(i) for i in range(15)][part]
            yield ids, {"logits": self.logits[part], "emotion": self.emotion[part]}


def _train(trainer, output_dir, max_epoch, *further, batches=None):
    torch.manual_seed(0)
    model = EmotionModel()
    options = trainer.build_options(_options(output_dir, max_epoch, *further))
    distributed = DistributedOption()
    distributed.init_options()
    trainer.run(
        model=model,
        optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)],
        schedulers=[None],
        train_iter_factory=batches or Batches(0),
        valid_iter_factory=Batches(1),
        plot_attention_iter_factory=None,
        trainer_options=options,
        distributed_option=distributed,
    )
    return model


def _options(output_dir, max_epoch, *further):
    from espnet2.tasks.abs_task import AbsTask

    parser = AbsTask.get_parser()
    ExtractionTrainer.add_arguments(parser)
    args = parser.parse_args(
        ["--output_dir", str(output_dir), "--max_epoch", str(max_epoch), "--num_att_plot", "0"]
        + ["--use_matplotlib", "false", "--use_tensorboard", "false", "--resume", "true"]
        + ["--keep_nbest_models", "1", *further]
    )
    args.best_model_criterion = [("valid", "loss", "min")]
    output_dir.mkdir(exist_ok=True)
    return args


def test_scores_of_the_whole_development_set(tmp_path):
    model = _train(EmotionTrainer, tmp_path / "exp", 1)
    stats = torch.load(tmp_path / "exp" / "checkpoint.pth")["reporter"]["stats"]
    batches = Batches(1)
    truth = batches.emotion[:, 0].numpy()
    guess = (batches.logits + model.offset).argmax(1).numpy()
    valid = stats[1]["valid"]
    assert valid["ua"] == pytest.approx(balanced_accuracy_score(truth, guess), abs=1e-6)
    assert valid["wa"] == pytest.approx(accuracy_score(truth, guess), abs=1e-6)
    assert valid["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"), abs=1e-6)
    parts = [slice(i, i + 7) for i in (0, 7, 14)]
    means = [ua(truth[p], guess[p], range(4)) for p in parts]
    assert valid["ua"] != pytest.approx(sum(means) / 3, abs=1e-3)  # the test can tell


def test_epochs_table_grows_and_survives_a_resume(tmp_path):
    _train(EmotionTrainer, tmp_path / "exp", 2)
    first = (tmp_path / "exp" / "epochs.tsv").read_text()
    rows = read_tsv(tmp_path / "exp" / "epochs.tsv", ["epoch", "train_loss", "valid_loss"])
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"valid_ua", "valid_wa", "valid_macro_f1", "train_optim0_lr0"} <= set(rows[0])
    assert not any("time" in name or "count" in name for name in rows[0])
    stats = torch.load(tmp_path / "exp" / "checkpoint.pth")["reporter"]["stats"]
    assert float(rows[1]["valid_ua"]) == pytest.approx(stats[2]["valid"]["ua"], rel=1e-5)
    _train(EmotionTrainer, tmp_path / "exp", 3)
    assert (tmp_path / "exp" / "epochs.tsv").read_text().startswith(first)
    assert len(read_tsv(tmp_path / "exp" / "epochs.tsv")) == 3


def test_an_extraction_trainer_needs_no_predictions(tmp_path):
    _train(ExtractionTrainer, tmp_path / "exp", 1)
    assert "valid_ua" not in read_tsv(tmp_path / "exp" / "epochs.tsv")[0]


def test_a_failing_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    _train(ExtractionTrainer, tmp_path / "exp", 1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "exp").iterdir()}
    save = torch.save

    def half(value, stream, *args, **kwargs):
        save(value, stream, *args, **kwargs)
        stream.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        _train(ExtractionTrainer, tmp_path / "exp", 2)
    assert torch.save is half  # the trainer puts back what it found
    assert {p.name: p.read_bytes() for p in (tmp_path / "exp").iterdir()} == before
    monkeypatch.undo()
    _train(ExtractionTrainer, tmp_path / "exp", 2)
    assert len(read_tsv(tmp_path / "exp" / "epochs.tsv")) == 2


def test_a_really_full_disk(tmp_path, capsys):
    directory = tmp_path / "exp"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted here")
    try:
        _train(ExtractionTrainer, tmp_path / "whole", 2)
        _train(ExtractionTrainer, directory, 1)
        with pytest.raises(OSError, match="No space left on device: .*large.pth"):  # not torch's
            espnet._save_carefully(torch.save, torch.zeros(100000), directory / "large.pth")
        checkpoint = (directory / "checkpoint.pth").read_bytes()
        full = 0
        for free in (0, 1, 2, 3, 4):  # pages: it is full at another file, or at another place of it
            with open(directory / "filler", "wb") as filler:
                disk = os.statvfs(directory)
                filler.write(bytes((disk.f_bavail - free) * disk.f_bsize))
            if run(lambda argv: _train(ExtractionTrainer, directory, 2) and None) == 0:
                break
            full += 1
            error = capsys.readouterr().err.splitlines()[-1]
            where = f"error: no space left on the device while writing {directory}/"
            assert error.startswith(where) and ".tmp" not in error
            assert (directory / "checkpoint.pth").read_bytes() == checkpoint
            (directory / "filler").unlink()
        assert full > 1
        _train(ExtractionTrainer, directory, 2)
        assert _products(directory) == _products(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_saving_to_a_stream_is_untouched():
    stream = io.BytesIO()
    espnet._save_carefully(torch.save, {"a": 1}, stream)
    stream.seek(0)
    assert torch.load(stream) == {"a": 1}


class PowerCut(BaseException):
    """The process is gone: nothing may catch this and go on."""


def _cut_power(monkeypatch, at):
    """Let the ``at``-th change of a name in the directory be the last thing that happens."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count > at:
                raise PowerCut
            return function(*args, **kwargs)

        return call

    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    for name in ("symlink_to", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


def _products(directory):
    """What a training leaves behind, with the weights that each name stands for."""
    states = {
        path.name: {k: v.tolist() for k, v in torch.load(path).items()}
        for path in directory.glob("*.pth")
        if not path.name.startswith("checkpoint")
    }
    checkpoint = torch.load(directory / "checkpoint.pth")
    epochs = [
        {k: v for k, v in row.items() if not k.endswith("time")}
        for row in read_tsv(directory / "epochs.tsv")
    ]
    return states, checkpoint["reporter"]["epoch"], epochs


# By a loss that falls, in the second epoch.
EARLY = (9, *"--patience 0 --early_stopping_criterion valid loss max".split())


@pytest.mark.parametrize("stop", [(2,), EARLY])
def test_a_training_cut_off_anywhere_ends_as_one_that_was_not(tmp_path, stop):
    _train(EmotionTrainer, tmp_path / "whole", *stop)
    whole = _products(tmp_path / "whole")
    assert whole[1] == 2 and {"valid.loss.best.pth", "latest.pth"} <= set(whole[0])
    for at in range(1000):
        directory = tmp_path / f"cut{at}"
        with pytest.MonkeyPatch.context() as patch:
            _cut_power(patch, at)
            try:
                _train(EmotionTrainer, directory, *stop)
                break  # nothing was left to cut off
            except PowerCut:
                pass
        _train(EmotionTrainer, directory, *stop)
        assert _products(directory) == whole, at
    assert at > 12
    _train(EmotionTrainer, directory, *stop)  # has ended: at its last epoch, or early
    assert _products(directory) == whole


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    left = tmp_path / ".tmp.1.checkpoint.pending.pth"
    left.write_bytes(b"half")
    _train(EmotionTrainer, tmp_path, 1)
    assert not left.exists()


def test_a_damaged_checkpoint_costs_one_epoch(tmp_path, caplog):
    _train(EmotionTrainer, tmp_path / "whole", 3)
    directory = tmp_path / "exp"
    _train(EmotionTrainer, directory, 2)
    assert not list(directory.glob("*pending*"))
    path = directory / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level("WARNING"):
        _train(EmotionTrainer, directory, 3)
    assert "checkpoint.pth: is damaged" in caplog.text and "one epoch earlier" in caplog.text
    assert _products(directory) == _products(tmp_path / "whole")
    for path in directory.glob("checkpoint*.pth"):
        path.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"checkpoint.pth: .*training cannot go on.*remove .*exp to"
    ):
        _train(EmotionTrainer, directory, 3)


@pytest.mark.parametrize(("payload", "save"), EVIL)
def test_nothing_in_a_checkpoint_runs(trained, tmp_path, monkeypatch, payload, save):
    monkeypatch.chdir(tmp_path)
    path = trained / "checkpoint.pth"
    write_evil(path, payload, save, within=torch.load(path))
    before = path.read_bytes()
    match = "checkpoint.pth: holds other objects .*: it may run code.*; remove .*exp to train from"
    with pytest.raises(UserError, match=match):
        _train(EmotionTrainer, trained, 3)
    assert path.read_bytes() == before and not (tmp_path / "pwned").exists()


def test_nothing_in_the_other_files_of_a_training_runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ("--keep_nbest_models", "2")
    write_evil(trained / "1epoch.pth")  # is averaged with that of the second epoch
    with pytest.raises(UserError, match="1epoch.pth: holds other objects"):
        _train(EmotionTrainer, trained, 2, *more)
    (trained / "checkpoint.pth").write_bytes(b"")
    write_evil(trained / "checkpoint.previous.pth")
    with pytest.raises(UserError, match="checkpoint.pth: is damaged.*; remove .*exp to train from"):
        _train(EmotionTrainer, trained, 2, *more)
    assert not (tmp_path / "pwned").exists()


@pytest.fixture
def trained(tmp_path):
    """The directory of a training of two epochs."""
    _train(EmotionTrainer, tmp_path / "exp", 2, "--keep_nbest_models", "2")
    return tmp_path / "exp"


def _of_202511(states):
    """What ESPnet 202511 saved: times and NumPy's numbers, and no version."""
    for phases in states["reporter"]["stats"].values():
        for values in phases.values():
            for name, value in values.items():
                if isinstance(value, float):
                    values[name] = np.float64(value)
            values["time"] = datetime.timedelta(seconds=1.5)
    return _without_version(states)


def _without_version(states):
    return {name: state for name, state in states.items() if name != "espnet"}


def _of_202612(states):
    return states | {"espnet": "202612"}


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (_of_202511, "202511 or older"),
        (_without_version, "202511 or older"),
        (_of_202612, "202612"),
    ],
)
def test_a_checkpoint_of_another_espnet_is_called_so(trained, tmp_path, change, version):
    path = trained / "checkpoint.pth"
    torch.save(change(torch.load(path)), path)
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    match = f"checkpoint.pth: was saved with ESPnet {version}, .* remove .*exp to train from the "
    with pytest.raises(UserError, match=match):
        _train(EmotionTrainer, trained, 3)
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before


def _changed(**changes):
    def change(states):
        return states | changes

    return change


def _with_reporter(**changes):
    def change(states):
        return states | {"reporter": states["reporter"] | changes}

    return change


def _with_stats(change):
    def changed(states):
        change(states["reporter"]["stats"])
        return states

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda states: [states],
        lambda states: states["model"],
        lambda states: "text",
        lambda states: torch.ones(3),
        lambda states: {k: v for k, v in states.items() if k != "reporter"},
        _changed(model={"offset": torch.ones(5)}),
        _changed(model={"offset": 1.0}),
        _changed(model={"offset": torch.eye(4).to_sparse()}),
        _changed(model={"offset": torch.tensor([1.0, 2, 3, float("nan")])}),
        _changed(optimizers=[]),
        _changed(optimizers=[None]),
        _changed(optimizers=[{"state": {}, "param_groups": 3}]),
        _changed(schedulers=[{"last_epoch": 3}]),
        _changed(scaler={"scale": 2.0}),
        _with_reporter(epoch="two"),
        _with_reporter(epoch=10**9),
        _with_reporter(stats=None),
        _with_reporter(stats={}),
        _with_stats(lambda stats: stats.pop(1)),
        _with_stats(lambda stats: stats[2].update(valid=3)),
        _with_stats(lambda stats: stats[2]["valid"].update(loss="low")),
        _with_stats(lambda stats: stats[2]["valid"].update(loss=torch.ones(2))),
        _with_stats(lambda stats: stats[2]["train"].pop("total_count")),
    ],
)
def test_a_checkpoint_of_something_else_is_one_clear_error(trained, change):
    path = trained / "checkpoint.pth"
    torch.save(change(torch.load(path)), path)
    with pytest.raises(UserError, match=f"{path}: ") as error:
        _train(EmotionTrainer, trained, 3)
    assert "\n" not in str(error.value)


def test_a_state_that_would_replace_a_method():
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], lr=0.1), 3)
    interruption.restore(scheduler, scheduler.state_dict())
    with pytest.raises(ValueError, match="a state with step"):
        interruption.restore(scheduler, scheduler.state_dict() | {"step": 3})


def _moments(**changes):
    """Adam's state of two parameters after a step, with changes of the second one's."""
    parameters = [torch.ones(3), torch.ones(2, 2), torch.tensor(1.0), torch.ones(1)]
    optimizer = torch.optim.Adam(parameters)
    for parameter in parameters[:3]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][1] = {
        name: value for name, value in (state["state"][1] | changes).items() if value != "missing"
    }
    return optimizer, state


@pytest.mark.parametrize(
    "changes",
    [
        {"exp_avg": "missing"},
        {"more": torch.ones(2, 2)},
        {"exp_avg": None},
        {"exp_avg": 1.0},
        {"exp_avg": torch.tensor(1.0)},
        {"exp_avg": torch.ones(4)},
        {"exp_avg": torch.ones(2, 2, dtype=torch.int32)},
        {"exp_avg": torch.ones(2, 2, dtype=torch.complex64)},
        {"exp_avg": torch.eye(2).to_sparse()},
        {"exp_avg": torch.ones(2, 2, device="meta")},
        {"exp_avg": torch.ones(1).expand(2, 2)},
        {"exp_avg_sq": torch.full((2, 2), float("nan"))},
        {"step": torch.tensor(float("inf"))},
        {"step": torch.ones(2, 2)},
    ],
)
def test_a_state_that_is_none_of_the_optimizer(changes):
    optimizer, state = _moments()
    interruption.restore(optimizer, state)
    optimizer.step()
    with pytest.raises(ValueError):
        interruption.restore(*_moments(**changes))


def _with_criterion(*criterion):
    class Trainer(EmotionTrainer):
        @classmethod
        def build_options(cls, args):
            args.best_model_criterion = [criterion]
            return super().build_options(args)

    return Trainer


@pytest.mark.parametrize(
    ("criterion", "max_epoch", "reason"),
    [
        (("valid", "uar", "max"), 1, "chooses by valid.uar, which no epoch has .*valid.ua"),
        (("train", "ua", "max"), 1, "chooses by train.ua, which no epoch has"),
        (("valid", "loss", "min"), 0, "chooses by valid.loss, which no epoch has .there was none"),
    ],
)
def test_a_training_without_its_best_weights_is_not_done(tmp_path, criterion, max_epoch, reason):
    path = tmp_path / "exp" / f"{criterion[0]}.{criterion[1]}.best.pth"
    for _ in range(2):  # the same again, not "has the training finished?" in the next stage
        with pytest.raises(
            UserError, match=f"{path}: the training has ended without it: .*{reason}"
        ):
            _train(_with_criterion(*criterion), tmp_path / "exp", max_epoch)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "is missing, though the training has ended; remove .*exp to train again"),
        (lambda path: path.resolve().unlink(), "is missing, though"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        (lambda path: torch.save({"offset": torch.full((4,), np.nan)}, path), "hold NaN"),
        (write_evil, "holds other objects"),
    ],
)
def test_a_finished_training_whose_weights_are_gone_is_not_done(trained, tmp_path, spoil, reason):
    spoil(trained / "valid.loss.best.pth")
    with pytest.raises(UserError, match=f"valid.loss.best.pth: .*{reason}"):
        _train(EmotionTrainer, trained, 2)


def test_a_training_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no_forward_run trains nothing"):
        _train(ExtractionTrainer, tmp_path / "exp", 1, "--no_forward_run", "true")
    with pytest.raises(UserError, match="its 3 batches are too few for an update of 4 .accum_grad"):
        _train(ExtractionTrainer, tmp_path / "exp", 1, "--accum_grad", "4")
    assert not list((tmp_path / "exp").glob("*.pth"))


def test_the_reporter_takes_a_value_once():
    # What EmotionTrainer relies on: a value registered in one step is not averaged with others.
    reporter = Reporter()
    with reporter.observe("valid", 1) as sub:
        for loss in (1.0, 2.0):
            sub.register({"loss": loss}, weight=3)
            sub.next()
        sub.register({"ua": 0.25})
        sub.next()
    assert reporter.get_value("valid", "ua") == 0.25
    assert reporter.get_value("valid", "loss") == 1.5


def test_accumulated_gradients_are_those_of_one_batch(tmp_path):
    def gradients(name, starts, *further):
        # One step of SGD, from zero: what it changes is the gradient.
        further = ["--accum_grad", *further] if further else []
        model = _train(ExtractionTrainer, tmp_path / name, 1, *further, batches=Batches(0, starts))
        return model.offset.detach() / -0.1

    whole = gradients("whole", (0, 14))
    torch.testing.assert_close(gradients("halves", (0, 7, 14), "2"), whole)
    # Batches count the same, whatever their size: an utterance of a small one counts for more.
    parts = [gradients(f"{a}-{b}", (a, b)) for a, b in ((0, 2), (2, 14))]
    uneven = gradients("uneven", (0, 2, 14), "2")
    torch.testing.assert_close(uneven, (parts[0] + parts[1]) / 2)
    assert not torch.allclose(uneven, whole, atol=1e-3)
    # What is left over at the end of an epoch makes no step.
    torch.testing.assert_close(gradients("rest", (0, 7, 14, 15), "2"), whole)


def test_what_an_epoch_has_waited_for(tmp_path, caplog):
    with caplog.at_level("INFO"):
        _train(ExtractionTrainer, tmp_path / "exp", 2, "--accum_grad", "2")
    lines = [m for m in caplog.messages if "waited for data" in m]
    pattern = (
        r"epoch \d: trained \d+\.\d s, \d+\.\d % of it waited for data; "
        r"memory so far at most \d\.\d GB"
    )
    assert len(lines) == 2 and all(re.fullmatch(pattern, line) for line in lines)


def test_options_that_exclude_each_other(tmp_path):
    options = ["--autocast", "bfloat16", "--use_amp", "true"]
    with pytest.raises(UserError, match="use_amp and autocast exclude each other"):
        _train(ExtractionTrainer, tmp_path / "exp", 1, *options)
