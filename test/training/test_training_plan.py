"""Plans of training: what is frozen until when, at which rate the rest is trained, for how long."""

import dataclasses
import os
import signal

import pytest
import tiny_ssl
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask, scheduler_classes
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from tiny_commands import TRAININGS, main_of, make_command
from tiny_training import products
from two_processes import assert_close, train_in_two

from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError
from espnet_tse_ser.models.shared import SharedModel
from espnet_tse_ser.training import schedulers
from espnet_tse_ser.training.checkpoints import load_state
from espnet_tse_ser.training.plan import check_plan, fit_plan
from espnet_tse_ser.training.trainer import ExtractionTrainer

schedulers.register()


def entry(from_epoch, *modules, lr_scale=0):
    return {"from_epoch": from_epoch, "modules": list(modules), "lr_scale": lr_scale}


class Model(AbsESPnetModel):
    """A front-end with a batch norm and dropout, and a classifier."""

    def __init__(self, at_forward=None):
        super().__init__()
        self.frontend = torch.nn.Sequential(
            torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5)
        )
        self.encoder = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6))
        self.classifier = torch.nn.Linear(6, 4)
        self.buffer_only = torch.nn.BatchNorm1d(3, affine=False)
        self.frozen_by_itself = torch.nn.Linear(2, 2).requires_grad_(False)
        self.at_forward = at_forward or (lambda model: None)

    def forward(self, x, y, **_):
        self.at_forward(self)
        loss = torch.nn.functional.cross_entropy(self.classifier(self.encoder(self.frontend(x))), y)
        return loss, {"loss": loss.detach()}, torch.tensor(len(x))

    def collect_feats(self, **_):
        return {}


class Batches(AbsIterFactory):
    def build_iter(self, epoch, shuffle=None):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(3):
            x, y = torch.randn(8, 5, generator=generator), torch.arange(8) % 4
            yield [str(i) for i in range(8)], {"x": x, "y": y}


def train(directory, plan, at_forward=None, scheduler=None, epochs=4, optim=torch.optim.AdamW):
    """Train a `Model`; returns it and its optimizer."""
    torch.manual_seed(0)
    model = Model(at_forward)
    parser = AbsTask.get_parser()
    ExtractionTrainer.add_arguments(parser)
    args = parser.parse_args(["--max_epoch", str(epochs), "--num_att_plot", "0"])
    args.output_dir, args.use_matplotlib, args.use_tensorboard = str(directory), False, False
    args.resume, args.keep_nbest_models = True, [100]
    args.best_model_criterion = [("valid", "loss", "min")]
    args.plan = check_plan(plan, epochs, "plan")
    options = dataclasses.replace(ExtractionTrainer.build_options(args), output_dir=directory)
    directory.mkdir(exist_ok=True)
    optimizer = optim(model.parameters(), lr=0.1, weight_decay=0.1)
    fit_plan(args.plan, model, optimizer, "plan")
    ExtractionTrainer.run(
        model=model,
        optimizers=[optimizer],
        schedulers=[scheduler and scheduler(optimizer)],
        train_iter_factory=Batches(),
        valid_iter_factory=Batches(),
        plot_attention_iter_factory=None,
        trainer_options=options,
        distributed_option=DistributedOption(),
    )
    return model, optimizer


def _states(directory, epochs=4):
    """The weights after each epoch, those before the first in front."""
    torch.manual_seed(0)
    paths = [directory / f"{epoch}epoch.pth" for epoch in range(1, epochs + 1)]
    return [Model().state_dict(), *(torch.load(path) for path in paths)]


def _changed(states, prefix):
    """In which epochs what begins with ``prefix`` has changed; all of it or nothing."""
    epochs = []
    for epoch, (before, after) in enumerate(zip(states, states[1:], strict=False), 1):
        names = [name for name in before if name.startswith(prefix)]
        changed = {not torch.equal(before[name], after[name]) for name in names}
        assert len(changed) == 1, (epoch, names)
        epochs += [epoch] if changed.pop() else []
    return epochs


PLAN = [
    entry(1, "frontend"),
    entry(3, "frontend.0", lr_scale=0.5),
    entry(4, "frontend", lr_scale=0.1),
    entry(2, "encoder"),
    entry(3, "encoder", lr_scale=2),
]


def test_what_is_frozen_stays_to_the_bit(tmp_path):
    train(tmp_path, PLAN)
    states = _states(tmp_path)
    # Weights and biases, of the batch norms its running means and counts too.
    assert _changed(states, "frontend.0.") == [3, 4]
    assert _changed(states, "frontend.1.") == [4]
    assert _changed(states, "encoder.") == [1, 3, 4]
    assert _changed(states, "classifier.") == [1, 2, 3, 4]
    assert _changed(states, "frozen_by_itself") == _changed(states, "buffer_only") == []


def test_what_is_frozen_has_no_dropout_gradient_or_moments(tmp_path):
    seen = []

    def at_forward(model):
        if model.training:
            _, norm, dropout = model.frontend
            seen.append((norm.training, dropout.training, model.encoder[1].training))
            assert not any(p.requires_grad or p.grad is not None for p in norm.parameters())

    model, optimizer = train(tmp_path, [entry(1, "frontend")], at_forward, epochs=1)
    assert seen == [(False, False, True)] * 3
    assert set(optimizer.state) == {*model.encoder.parameters(), *model.classifier.parameters()}
    saved = torch.load(tmp_path / "checkpoint.pth")["optimizers"][0]
    assert len(saved["state"]) == len(optimizer.state)
    # As it was when the epoch is over, for whatever comes next.
    assert all(p.requires_grad for p in model.frontend.parameters())
    assert model.train().frontend[1].training and "train" not in vars(model)
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def _batch_steps(name, **conf):
    return lambda optimizer: scheduler_classes[name](optimizer, **conf)


SCHEDULERS = {
    "none": None,
    "warmuplr": _batch_steps("warmuplr", warmup_steps=4),
    "steplr": _batch_steps("steplr", step_size=2, gamma=0.3),
    "exponentiallr": _batch_steps("exponentiallr", gamma=0.7),  # from the rate before, not from t
    "reducelronplateau": _batch_steps("reducelronplateau", patience=0, factor=0.5, threshold=1.0),
    "onecyclelr": _batch_steps("onecyclelr", max_lr=0.1, total_steps=20),
    "warmup_cosine": _batch_steps(
        "warmup_cosine", warmup_steps=2, max_steps=12, init_lr=1e-3, min_lr=1e-3
    ),
    "trapezoid_per_epoch": _batch_steps("trapezoid_per_epoch", warmup=2, hold=1, total=5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_of_the_optimizer_are_those_of_the_schedule_times_a_factor(tmp_path, name):
    def rates(directory, plan):
        """Rate by which each parameter is multiplied in each step: plain decay shows it."""
        steps = []

        class Shown(torch.optim.Optimizer):
            def __init__(self, params, lr, weight_decay):
                super().__init__(params, {"lr": lr, "momentum": 0.9})

            @torch.no_grad()
            def step(self):
                rate = {p: g["lr"] for g in self.param_groups for p in g["params"]}
                steps.append(rate)
                for parameter in filter(lambda p: p.grad is not None, rate):
                    parameter -= rate[parameter] * parameter.grad

        model, _ = train(directory, plan, scheduler=SCHEDULERS[name], optim=Shown)
        return [{n: step[p] for n, p in model.named_parameters() if p in step} for step in steps]

    plain, scaled = rates(tmp_path / "plain", []), rates(tmp_path / "scaled", PLAN)
    assert len(plain) == len(scaled) == 12
    factors = {
        "frontend.0": [0, 0, 0.5, 0.1],
        "frontend.1": [0, 0, 0, 0.1],
        "encoder": [1, 0, 2, 2],
        "classifier": [1, 1, 1, 1],
    }
    for step, (before, after) in enumerate(zip(plain, scaled, strict=True)):
        assert before.keys() == after.keys() and len(before) == 10
        for parameter, rate in after.items():
            (factor,) = [f[step // 3] for n, f in factors.items() if parameter.startswith(n)]
            assert rate == before[parameter] * factor
    assert name == "none" or len({rate["classifier.bias"] for rate in plain}) > 1


def test_a_training_that_is_stopped_at_any_step_ends_as_one_that_was_not(tmp_path):
    scheduler = SCHEDULERS["warmuplr"]
    train(tmp_path / "whole", PLAN, scheduler=scheduler)
    whole = products(tmp_path / "whole")

    def signal_in_training(model):
        if model.training:
            os.kill(os.getpid(), signal.SIGUSR1)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        for _ in range(4 * 3):
            with pytest.raises(Requeue):
                train(tmp_path / "parts", PLAN, signal_in_training, scheduler)
        train(tmp_path / "parts", PLAN, signal_in_training, scheduler)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert products(tmp_path / "parts") == whole


def test_no_plan_is_training_at_one_rate(tmp_path):
    for name, plan in (("none", []), ("one", [entry(1, "encoder", "frontend", lr_scale=1)])):
        train(tmp_path / name, plan)
    one, none = (_states(tmp_path / name) for name in ("one", "none"))
    assert all(torch.equal(a[n], b[n]) for a, b in zip(one, none, strict=True) for n in a)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([{"from_epoch": 1, "modules": ["a"]}], r"plan\[0\]: has no 'lr_scale'; give a number"),
        ([entry(1, "a") | {"lr": 1}], r"plan\[0\]: unknown key 'lr'; known: from_epoch, modules"),
        ([entry(1, "a"), entry(0, "a")], r"plan\[1\]: from_epoch: expected a whole number of 1"),
        ([entry(1.5, "a")], r"plan\[0\]: from_epoch: expected a whole number"),
        ([entry(1, "a", lr_scale=-1)], r"plan\[0\]: lr_scale: expected a number of 0 or more"),
        ([entry(1, "a", lr_scale=True)], r"plan\[0\]: lr_scale: expected a number"),
        ([entry(1)], r"plan\[0\]: modules: expected a list of 1 or more"),
        ([entry(1, 3)], r"plan\[0\]: modules: expected a list of 1 or more"),
        ([entry(1, "a"), entry(9, "a")], r"plan\[1\]: from_epoch: 9 never comes: max_epoch is 8"),
        ([entry(2, "a"), entry(2, "a")], r"plan\[1\]: modules: 'a' and 'a' overlap, both from ep"),
        ([entry(2, "a.b"), entry(2, "a")], r"plan\[1\]: modules: 'a' and 'a.b' overlap"),
        ([entry(2, "a", "b", "a.b.c")], r"plan\[0\]: modules: 'a.b.c' and 'a' overlap"),
    ],
)
def test_plans_that_are_refused(plan, message):
    with pytest.raises(UserError, match=f"^train.yaml: {message}"):
        check_plan(plan, 8, "train.yaml: plan")


def test_names_that_only_begin_alike_do_not_overlap():
    plan = [entry(2, "ab"), entry(2, "a"), entry(3, "a.b")]
    assert check_plan(plan, 8, "plan") == plan


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            [entry(1, "ssl")],
            r"plan\[0\]: modules: 'ssl': the model has no .* it has frontend, encoder, c",
        ),
        ([entry(1, "encoder", "front")], r"plan\[0\]: modules: 'front': the model has no such"),
        ([entry(1, "encoder"), entry(2, "encoder.4")], r"plan\[1\]: modules: 'encoder.4': the"),
        ([entry(1, "buffer_only")], r"plan\[0\]: modules: 'buffer_only': the model has no such"),
        (
            [entry(2, "frozen_by_itself", lr_scale=1)],
            r"plan.*'frozen_by_itself' is not trained in any",
        ),
        (
            [entry(1, "frontend", "encoder", "classifier")],
            "plan.*nothing is left to train from epoch 1",
        ),
        (
            [entry(1, "frontend"), entry(3, "encoder", "classifier")],
            "plan.*nothing .* from epoch 3 on",
        ),
    ],
)
def test_plans_that_do_not_fit_the_model(plan, message):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match=f"^train.yaml: {message}"):
        fit_plan(plan, model, optimizer, "train.yaml: plan")


PARTS = {  # of each training: what is frozen until the second epoch, and what is not
    "tse": ("extractor", "decoder"),
    "ser": ("preencoder", "encoder"),
    "tse_ser": ("tse_model", "ser_model.encoder"),
}


@pytest.fixture
def train_command(tiny, tmp_path, monkeypatch):
    """``train_command(training, directory, **changes)``: run one of two epochs.

    By the plan, unless ``changes`` of its configuration say otherwise.
    """
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def train(training, directory="exp", main=None, **changes):
        plan = [entry(1, PARTS[training][0]), entry(2, PARTS[training][0], lr_scale=0.5)]
        changes = {"plan": plan, "max_epoch": 2, "keep_nbest_models": 5} | changes
        command = make_command(training, tmp_path, tiny, **changes)
        (main or main_of(training))([*command, "--output_dir", str(tmp_path / directory)])

    return train


@pytest.mark.parametrize("training", TRAININGS)
def test_commands(train_command, training):
    train_command(training)
    first, second = (load_state(f"exp/{epoch}epoch.pth") for epoch in (1, 2))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert all(any(name.startswith(part) for name in changed) for part in PARTS[training])
    # Trained from the second epoch on only: no moments before.
    steps = torch.load("exp/checkpoint.pth")["optimizers"][0]["state"].values()
    counts = {int(state["step"]) for state in steps}
    assert len(counts) == 2 and max(counts) == 2 * min(counts)
    message = rf"train_{training}.yaml: plan\[0\]: "
    with pytest.raises(UserError, match=f"{message}modules: 'x': the model has no such part"):
        train_command(training, "exp2", plan=[entry(1, "x")])
    with pytest.raises(UserError, match=f"{message}from_epoch: 2 never comes"):
        train_command(training, "exp2", plan=[entry(2, "x")], max_epoch=1)


def test_a_fine_tuned_front_end_that_is_frozen_at_first(train_command, tmp_path):
    weights = tiny_ssl.write_weights(tmp_path / "weights.pt")
    conf = tiny_ssl.frontend_conf(weights, finetune=True, layer="weighted")
    changes = {"preencoder": None, "preencoder_conf": {}, "specaug": "ssl_specaug"}
    changes |= {"frontend": "ssl", "frontend_conf": conf}
    plan = [entry(1, "frontend.ssl"), entry(2, "frontend.ssl", lr_scale=0.5)]
    train_command("ser", plan=plan, **changes)
    loaded = {f"frontend.ssl.{name}": value for name, value in torch.load(weights).items()}
    first, second = (load_state(f"exp/{epoch}epoch.pth") for epoch in (1, 2))
    ours = loaded.keys() & first.keys()
    assert all(torch.equal(loaded[name], first[name]) for name in ours)
    moved = {name for name in ours if not torch.equal(first[name], second[name])}
    assert moved and not any("feature_extractor" in name for name in moved)
    assert not torch.equal(first["frontend.layer_weights"], torch.zeros(3))
    changes["frontend_conf"] = conf | {"finetune": False}
    with pytest.raises(UserError, match="'frontend.ssl' is not trained in any epoch .*finetune"):
        train_command("ser", "exp2", plan=plan, **changes)


CASCADE = [
    entry(1, "frontend.ssl"),
    entry(2, "frontend.ssl.encoder.transformer.layers.1", lr_scale=0.5),
    entry(3, "frontend.ssl.encoder.transformer.layers.0", lr_scale=0.5),
    entry(4, "frontend.ssl", lr_scale=0.5),
]


def test_a_cascade_that_is_interrupted_in_each_phase(train_command, tmp_path, monkeypatch):
    """One encoder for two tasks: released layer by layer, to the same bits."""
    arch = tiny_ssl.ARCH | {"extractor_conv_layer_config": [[8, 40, 20], [8, 16, 16]]}
    weights = tiny_ssl.write_weights(tmp_path / "weights.pt", arch=arch)
    conf = tiny_ssl.frontend_conf(weights, arch_conf=arch, finetune=True, layer="weighted")
    changes = {"frontend": "ssl", "frontend_conf": conf, "model": "shared", "max_seconds": None}
    changes |= {"model_conf": {"mask_hidden": 8, "class_weight": "balanced"}}
    changes |= {"preencoder": None, "preencoder_conf": {}, "specaug": None, "batch_size": 3}
    changes |= {"plan": CASCADE, "max_epoch": 4, "accum_grad": 2}
    train_command("ser", "whole", **changes)
    loaded = {f"frontend.ssl.{n}": value for n, value in torch.load(weights).items()}
    states = [load_state(f"whole/{epoch}epoch.pth") for epoch in range(1, 5)]
    layers = "frontend.ssl.encoder.transformer.layers."
    for before, after, released in zip(
        [loaded, *states], states, ([], ["1"], ["1", "0"], ["1", "0", None]), strict=False
    ):
        changed = {n for n in loaded if not torch.equal(before[n], after[n])}
        assert not any("feature_extractor" in name for name in changed)
        ours = [n for n in loaded if n.startswith(layers)]
        expected = {n for n in ours if n.removeprefix(layers)[0] in released}
        # The biases of keys move all scores of a softmax alike.
        assert {n for n in expected if not n.endswith("k_proj.bias")} <= changed
        assert changed <= expected or None in released
        assert (
            None not in released
            or "frontend.ssl.encoder.feature_projection.projection.weight" in changed
        )
    assert states[0]["class_weight"].tolist() != [1, 1, 1, 1]

    losses, forwards, phases = SharedModel.losses, [], set()

    def interrupted(model, *args, **batch):
        if model.training:
            forwards.append(model)
            if len(forwards) == 3:
                phases.add(sum(p.requires_grad for p in model.parameters()))
                os.kill(os.getpid(), signal.SIGUSR1)
        return losses(model, *args, **batch)

    monkeypatch.setattr(SharedModel, "losses", interrupted)
    for _ in range(40):
        forwards.clear()
        try:
            train_command("ser", "parts", **changes)
        except SystemExit as stopped:
            assert stopped.code == REQUEUE_STATUS
        else:
            break
    assert len(phases) == 4
    assert products(tmp_path / "parts") == products(tmp_path / "whole")


def test_two_processes_train_as_one(train_command, tmp_path):
    def train_two(command):
        statuses, logs = train_in_two(main_of("tse_ser"), command, tmp_path / "logs")
        assert statuses == [0, 0], logs

    train_command("tse_ser", "one")
    train_command("tse_ser", "two", main=train_two)
    assert_close(tmp_path / "one", tmp_path / "two")


def test_an_optimizer_without_rate(train_command):
    plan = [entry(1, "encoder", lr_scale=0.5)]
    with pytest.raises(UserError, match="train_ser.yaml: plan: rprop has no rate to scale"):
        train_command("ser", plan=plan, optim="rprop", optim_conf={})
