"""Checkpoints, strict loading, epochs.tsv and the whole-set scores of `EmotionTrainer`."""

import os
import pickle

import pytest
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from espnet_tse_ser import espnet
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.espnet import (
    EmotionTrainer,
    ExtractionTrainer,
    find_weights,
    load_state,
    load_weights,
    read_config,
)
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.metrics.emotion import ua


def _net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(_net().state_dict(), path)
    return path


class Payload:
    """What unpickling must never run."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_weights_are_loaded(weights, caplog):
    net = _net()
    with caplog.at_level("INFO"):
        load_weights(net, weights)
    saved = load_state(weights)
    assert all(torch.equal(v, saved[k]) for k, v in net.state_dict().items())
    assert "7 of 7 tensors loaded" in caplog.text


def test_prefix_and_optional(tmp_path, weights):
    state = load_state(weights)
    path = tmp_path / "whole.pth"
    whole = {f"part.{k}": v for k, v in state.items()} | {"partner.x": torch.ones(1)}
    torch.save(whole, path)
    net = _net()
    load_weights(net, path, prefix="part")
    assert torch.equal(net[0].weight, state["0.weight"])
    with pytest.raises(UserError, match="7 missing, 0 unknown"):
        load_weights(_net(), path, prefix="other")
    torch.save(state | {"classifier.weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="1 unknown.* first 'classifier.weight' .unknown to the m"):
        load_weights(_net(), path)
    load_weights(_net(), path, optional=("classifier",))
    net = _net()
    net.add_module("classifier", torch.nn.Linear(2, 2))
    load_weights(net, weights, optional=("classifier",))
    load_weights(net, path, optional=("classifier",))  # of another shape: left as it is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("1.bias"), r"1 missing, 0 unknown, 0 of another.*'1.bias' \(missing in"),
        (lambda s: s.update({"0.weight": torch.ones(4, 5)}), r"\(4, 5\) instead of \(4, 3\)"),
        (lambda s: s.update(more=torch.ones(1)), r"'more' \(unknown to the model\)"),
        (lambda s: s.clear(), "7 missing"),
    ],
)
def test_another_architecture(weights, change, message):
    state = load_state(weights)
    change(state)
    torch.save(state, weights)
    net = _net()
    before = net[0].weight.clone()
    with pytest.raises(UserError, match=f"weights.pth: weights of another.*{message}") as error:
        load_weights(net, weights)
    assert "use the configuration that the weights were trained with" in str(error.value)
    assert torch.equal(net[0].weight, before)  # nothing was loaded


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"hello world, this is text\n", b"\x80", b"PK\x03\x04", bytes(range(256))],
)
def test_a_file_of_something_else(weights, content):
    weights.write_bytes(content)
    with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
        load_state(weights)
    assert "\n" not in str(error.value)


def test_a_truncated_file(weights):
    whole = weights.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
            load_state(weights)
        assert "train it again" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("save", [torch.save, lambda v, p: p.write_bytes(pickle.dumps(v))])
def test_a_pickled_object_is_refused(weights, monkeypatch, tmp_path, save):
    monkeypatch.chdir(tmp_path)
    save({"0.weight": Payload()}, weights)
    with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
        load_state(weights)
    # Never advise to load it all the same, as PyTorch's message does.
    assert "weights_only" not in str(error.value) and "options" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "value", [[1, 2], torch.ones(2), {0: torch.ones(1)}, {"epoch": 3}, {"model": {}}, "text"]
)
def test_not_a_state_dict(weights, value):
    torch.save(value, weights)
    with pytest.raises(UserError, match="weights.pth: is not a state dict"):
        load_state(weights)


def test_no_such_weights(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such file"):
        load_state(tmp_path / "none.pth")
    with pytest.raises(UserError, match=f"{tmp_path}: cannot be"):
        load_state(tmp_path)
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; has the training in"):
        find_weights(tmp_path, "valid.ua")
    (tmp_path / "valid.ua.best.pth").touch()
    assert find_weights(tmp_path, "valid.ua") == tmp_path / "valid.ua.best.pth"


def test_configurations(tmp_path):
    with pytest.raises(UserError, match="config.yaml: no such file; is .* a trained model"):
        read_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    assert read_config(tmp_path) == {"a": 1}
    with pytest.raises(UserError, match="is .* a trained model"):
        read_config(path)  # a file instead of its directory
    for text, message in (
        ("a: [1", "not valid YAML"),
        ("- 1\n", "expected a mapping of options, got list"),
        ("", "expected a mapping of options, got NoneType"),
        ("a: !!python/object/apply:os.mkdir [pwned]\n", "not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=f"config.yaml: {message}") as error:
            read_config(tmp_path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="config.yaml: not valid YAML"):
        read_config(tmp_path)


class EmotionModel(AbsESPnetModel):
    """Its logits are its input."""

    labels = ["ang", "hap", "neu", "sad"]

    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(1))
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

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(15, 4, generator=generator)
        self.emotion = torch.tensor([[0]] * 8 + [[1]] * 2 + [[2]] * 1 + [[3]] * 4)
        self.logits[range(15), self.emotion[:, 0]] += 1.0

    def build_iter(self, epoch, shuffle=None):
        for start in range(0, 15, 7):
            part = slice(start, start + 7)
            ids = [str(i) for i in range(15)][part]
            yield ids, {"logits": self.logits[part], "emotion": self.emotion[part]}


def _train(trainer, output_dir, max_epoch):
    torch.manual_seed(0)
    model = EmotionModel()
    options = trainer.build_options(_options(output_dir, max_epoch))
    distributed = DistributedOption()
    distributed.init_options()
    trainer.run(
        model=model,
        optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)],
        schedulers=[None],
        train_iter_factory=Batches(0),
        valid_iter_factory=Batches(1),
        plot_attention_iter_factory=None,
        trainer_options=options,
        distributed_option=distributed,
    )
    return model


def _options(output_dir, max_epoch):
    from espnet2.tasks.abs_task import AbsTask

    args = AbsTask.get_parser().parse_args(
        ["--output_dir", str(output_dir), "--max_epoch", str(max_epoch), "--num_att_plot", "0"]
        + ["--use_matplotlib", "false", "--use_tensorboard", "false", "--resume", "true"]
        + ["--keep_nbest_models", "1"]
    )
    args.best_model_criterion = [("valid", "loss", "min")]
    output_dir.mkdir(exist_ok=True)
    return args


def test_scores_of_the_whole_development_set(tmp_path):
    model = _train(EmotionTrainer, tmp_path / "exp", 1)
    stats = torch.load(tmp_path / "exp" / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
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
    stats = torch.load(tmp_path / "exp" / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
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

    def half(value, target, *args, **kwargs):
        save(value, target, *args, **kwargs)
        with open(target, "r+b") as stream:
            stream.truncate(100)
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        _train(ExtractionTrainer, tmp_path / "exp", 2)
    assert torch.save is half  # the trainer puts back what it found
    assert {p.name: p.read_bytes() for p in (tmp_path / "exp").iterdir()} == before
    monkeypatch.undo()
    _train(ExtractionTrainer, tmp_path / "exp", 2)
    assert len(read_tsv(tmp_path / "exp" / "epochs.tsv")) == 2


def test_saving_to_a_stream_is_untouched(tmp_path):
    import io

    with espnet._careful_saves():
        stream = io.BytesIO()
        torch.save({"a": 1}, stream)
    stream.seek(0)
    assert torch.load(stream) == {"a": 1}


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
