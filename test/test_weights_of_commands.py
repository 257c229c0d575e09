"""What the commands read weights from: nothing in it runs, nothing odd is trained on."""

import pytest
import torch
from evil_files import EVIL, write_evil
from tiny_commands import TRAININGS, main_of, make_command

from espnet_tse_ser.errors import run
from espnet_tse_ser.training.checkpoints import load_state


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
def test_initial_weights_of_espnet_are_refused(refused, tmp_path, training):
    payload, save = EVIL[0]
    write_evil(tmp_path / "x.pth", payload, save)
    error = refused(training, "--init_param", f"{tmp_path}/x.pth")
    assert error.startswith("error: --init_param: expected [], all that is supported here")


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
