"""What the commands read weights from: nothing in it runs, nothing odd is trained on."""

import pytest
import torch
from evil_files import EVIL, write_evil
from tiny_commands import TRAININGS, main_of, make_command

from espnet_tse_ser.checkpoints import load_state
from espnet_tse_ser.errors import run


@pytest.fixture
def refused(tiny, tmp_path, monkeypatch, capsys):
    """``refused(training, *options)``: the error with which a command ends, in a new directory."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def train(training, *options, **changes):
        command = make_command(training, tmp_path, tiny | changes, max_epoch=1)
        command += ["--output_dir", str(tmp_path / "exp"), *map(str, options)]
        assert run(main_of(training), command) == 2
        assert not (tmp_path / "pwned").exists()
        assert not list((tmp_path / "exp").glob("*.pth"))
        return capsys.readouterr().err.splitlines()[-1]

    return train


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize(("payload", "save"), EVIL[::4])
def test_nothing_in_initial_weights_runs(refused, tmp_path, training, payload, save):
    write_evil(tmp_path / "x.pth", payload, save)
    error = refused(training, "--init_param", f"{tmp_path}/x.pth")
    assert f"{tmp_path}/x.pth: holds other objects than tensors and plain values" in error


@pytest.mark.parametrize("training", TRAININGS)
def test_initial_weights_that_do_not_fit(refused, tmp_path, training):
    torch.save({"a.b": torch.ones(2)}, tmp_path / "x.pth")
    torch.save({"a.b": torch.full((2,), float("nan"))}, tmp_path / "nan.pth")
    for init_param, reason in (
        (
            "x.pth",
            "1 of 1 tensors have no place in the model, or one of another shape, first 'a.b'",
        ),
        ("x.pth:nothing", "0 of 0 tensors have no place"),
        ("x.pth:a:nothing", "the model has no part 'nothing'"),
        ("nan.pth", "nan.pth: 1 of 1 tensors hold NaN"),
        ("none.pth", "none.pth: no such file"),
    ):
        assert reason in refused(training, "--init_param", init_param)


@pytest.mark.parametrize("part", ["tse_dir", "ser_dir"])
def test_parts_of_a_joint_training(refused, tiny, tmp_path, part):
    (source,) = tiny[part].glob("*.best.pth")
    (tmp_path / part).mkdir()
    (tmp_path / part / "config.yaml").write_text((tiny[part] / "config.yaml").read_text())
    path = tmp_path / part / source.name
    write_evil(path, within=load_state(source))
    assert f"{path}: holds other objects" in refused("tse_ser", **{part: tmp_path / part})
    name = next(iter(load_state(source)))
    torch.save(load_state(source) | {name: torch.full_like(load_state(source)[name], 0) / 0}, path)
    assert f"{path}: 1 of " in refused("tse_ser", **{part: tmp_path / part})


@pytest.mark.parametrize(
    ("parts", "equal"),
    [(None, (False, False)), ("", (True, True)), (":encoder:encoder", (True, False))],
)
def test_initial_weights_are_those_of_the_file(tiny, tmp_path, tse_dir, parts, equal):
    torch.set_num_threads(1)
    command = make_command("tse", tmp_path, tiny, max_epoch=1, optim_conf={"lr": 0.0})
    path = tse_dir / "valid.loss.best.pth"
    command += [] if parts is None else ["--init_param", f"{path}{parts}"]
    main_of("tse")([*command, "--output_dir", str(tmp_path / "exp")])
    weights, start = load_state(tmp_path / "exp" / "latest.pth"), load_state(path)
    for part, expected in zip(("encoder", "decoder"), equal, strict=True):
        names = [name for name in start if name.startswith(f"{part}.")]
        assert names and all(torch.equal(weights[n], start[n]) == expected for n in names)
