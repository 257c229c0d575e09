"""Schedules: rates of chosen steps and epochs against closed forms, ESPnet's calls, resuming."""

import math

import pytest
import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler, AbsEpochStepScheduler
from espnet2.schedulers.exponential_decay_warmup import ExponentialDecayWarmup
from espnet2.schedulers.tristage_lr import TristageLR
from espnet2.tasks.abs_task import scheduler_classes

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.schedulers import SCHEDULERS, Steps, check_lengths, in_steps, register

register()


def _optimizer(lr=5e-4):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    return torch.optim.SGD(groups, lr=lr)


def _rates(name, num_steps, **conf):
    """Rates with which the steps (or epochs) 0, 1, ... are done."""
    optimizer = _optimizer()
    scheduler, rates = scheduler_classes[name](optimizer, **conf), []
    for _ in range(num_steps):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == second
        rates.append(first)
        optimizer.step()
        scheduler.step()
    return rates


def test_nominal_schedule():
    steps = 20  # an epoch
    conf = {"warmup_steps": 5 * steps, "max_steps": 100 * steps, "init_lr": 5e-7, "min_lr": 5e-6}
    rates = _rates("warmup_cosine", 101 * steps, **conf)
    for epoch in (0, 1, 2.5, 4):
        expected = 5e-7 + (5e-4 - 5e-7) * epoch / 5
        assert rates[int(epoch * steps)] == pytest.approx(expected, rel=1e-9)
    assert rates[0] == 5e-7 and max(rates) == pytest.approx(5e-4, rel=0.01)
    for epoch in (5, 20, 50, 99):
        expected = 5e-6 + (5e-4 - 5e-6) * math.cos(math.pi * epoch / 200) ** 2
        assert rates[epoch * steps] == pytest.approx(expected, rel=1e-9)
    assert rates[50 * steps] == pytest.approx((5e-4 + 5e-6) / 2)
    assert rates[100 * steps :] == pytest.approx([5e-6] * steps)  # and no restart


def test_fine_tuning_as_it_ran():
    conf = {"warmup": 5 * 139, "hold": 5 * 139, "total": 100 * 139}
    rates = _rates("trapezoid_per_epoch", 100, **conf)
    assert rates[0] == 0
    assert rates[1] == pytest.approx(7.2e-7, rel=0.01)
    assert rates[99] == pytest.approx(7.1e-5, rel=0.01)
    rises = [after - before for before, after in zip(rates, rates[1:], strict=False)]
    assert rises == pytest.approx([5e-4 / 695] * 99)


def test_fine_tuning_as_it_was_meant():
    conf = {"warmup": 5 * 20, "hold": 5 * 20, "total": 100 * 20}
    rates = _rates("trapezoid", 101 * 20, **conf)
    for epoch, share in ((0, 0), (1, 0.2), (5, 1), (7, 1), (10, 1), (55, 0.5), (100, 0)):
        assert rates[epoch * 20] == pytest.approx(5e-4 * share, abs=1e-12)
    assert rates[100 * 20 :] == [0] * 20


def test_espnet_steps_them_where_it_should():
    for name, kind in SCHEDULERS.items():
        per_epoch = name == "trapezoid_per_epoch"
        assert issubclass(kind, AbsEpochStepScheduler) == per_epoch
        assert issubclass(kind, AbsBatchStepScheduler) != per_epoch
        assert name == name.lower()  # as ESPnet asks for them


@pytest.mark.parametrize(
    ("name", "conf"),
    [
        ("warmup_cosine", {"warmup_steps": 3, "max_steps": 9, "init_lr": 0.1, "min_lr": 0.01}),
        ("trapezoid", {"warmup": 3, "hold": 2, "total": 9}),
    ],
)
def test_resuming(name, conf):
    whole = _rates(name, 12, **conf)
    optimizer = _optimizer()
    scheduler = SCHEDULERS[name](optimizer, **conf)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer = _optimizer()
    scheduler = SCHEDULERS[name](optimizer, **conf)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == whole[4:]


@pytest.mark.parametrize(
    ("name", "conf", "message"),
    [
        (
            "warmup_cosine",
            {"warmup_steps": 9, "max_steps": 9, "init_lr": 0, "min_lr": 0},
            "warmup_steps 9 must be less than max_steps 9",
        ),
        ("trapezoid", {"warmup": 5, "hold": 4, "total": 9}, "warmup 5 and hold 4 .* total 9"),
        ("trapezoid", {"warmup": -1, "hold": 4, "total": 9}, "neither negative"),
    ],
)
def test_what_does_not_fit_is_refused(name, conf, message):
    with pytest.raises(ValueError, match=message):
        SCHEDULERS[name](_optimizer(), **conf)


def test_epochs_are_as_many_steps_as_they_have():
    conf = {"warmup_steps": "5 epochs", "max_steps": "100 epochs", "init_lr": 5e-7, "min_lr": 5e-6}
    steps = {"warmup_steps": 35, "max_steps": 700, "init_lr": 5e-7, "min_lr": 5e-6}
    assert in_steps(conf, 7) == steps
    assert in_steps(steps | {"mode": "min", "scale_fn": None}, 7) == steps | {
        "mode": "min",
        "scale_fn": None,
    }
    assert in_steps({"warmup": "0.5epochs", "total": "1 epoch"}, 9) == {"warmup": 4, "total": 9}


@pytest.mark.parametrize(
    "value", ["epochs", "-1 epochs", "1e2 epochs", "nan epochs", "5 steps", 1.5]
)
def test_what_is_no_number_of_epochs(value):
    with pytest.raises(
        ValueError, match="expected a whole number of 1 or more, or epochs, e.g. '5"
    ):
        Steps(1)(value)


def _schedulers(length):
    """One of each kind that has a length."""
    optimizer = _optimizer()
    return [
        SCHEDULERS["warmup_cosine"](optimizer, 1, length, 0, 0),
        SCHEDULERS["trapezoid"](optimizer, 1, 1, length),
        TristageLR(optimizer, length),
        ExponentialDecayWarmup(optimizer, 0.1, 0.01, length),
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, length),
    ]


@pytest.mark.parametrize("kind", range(5))
def test_a_training_that_ends_before_its_schedule_is_refused(kind):
    scheduler = _schedulers(540)[kind]
    check_lengths([scheduler, None], 18, 30, "a.yaml")
    check_lengths([scheduler], 19, 25, "a.yaml")  # 475
    message = (
        "(max_steps|total|total_steps) is 540 steps, but the training has 95: 5 epochs of 19; "
    )
    with pytest.raises(UserError, match=f"^a.yaml: scheduler_conf: {message}give .*: 5 epochs, or"):
        check_lengths([None, scheduler], 19, 5, "a.yaml")


@pytest.mark.parametrize("kind", range(4))
def test_a_training_that_goes_on_after_its_schedule_says_so(kind, caplog):
    scheduler = _schedulers(540)[kind]
    check_lengths([scheduler], 20, 30, "a.yaml")
    assert not caplog.records
    check_lengths([scheduler], 22, 30, "a.yaml")
    assert caplog.messages[0].startswith("a.yaml: scheduler_conf: ")
    assert "is 540 steps, but the training has 660: 30 epochs of 22; the rate stays" in caplog.text


def test_a_schedule_that_ends_with_an_error_is_long_enough():
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(_optimizer(), 0.1, total_steps=9), None]
    check_lengths(schedulers, 9, 1, "a.yaml")
    with pytest.raises(
        UserError, match="total_steps is 9 steps, but the training has 10: 2 epochs"
    ):
        check_lengths(schedulers, 5, 2, "a.yaml")


def test_without_a_length_nothing_is_to_be_fitted():
    check_lengths([torch.optim.lr_scheduler.ExponentialLR(_optimizer(), 0.9), None], 1, 1, "a.yaml")
