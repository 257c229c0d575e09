"""The cases of every section at tiny size: they are built, equal, and make a step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from recipes import ROOT
from tiny_corpora import pool_options, write_corpora

from bench import asteroid, blstm, data_wait, extractor, joint, simulation, startup
from bench.floors import dense_flops, rates
from bench.measure import Seconds, Unequal
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv

MINI = Path(ROOT) / "egs2/mini_iemocap_mix/tse_ser1"


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    config = yaml.safe_load((MINI / "conf/train_tse_debug.yaml").read_text())
    # short windows, for which there are filters enough
    filters = {"channel": 16, "kernel_size": 8, "stride": 4}
    path = tmp_path_factory.mktemp("config") / "train_tse.yaml"
    path.write_text(yaml.safe_dump(config | {"encoder_conf": filters, "decoder_conf": filters}))
    return {"tiny": extractor.Size(str(path), 2, 0.1)}


@pytest.mark.parametrize("number", range(6))
def test_extractor(number, sizes):
    cases = extractor.cases(sizes, inference_seconds=0.1)
    assert len({case.name for case in cases}) == len(cases) == 7
    plain = [case for case in cases if "compiled" not in case.name]
    case = plain[number]
    assert "outputs to" in case.equal()
    for build in (case.ours, case.theirs):
        build()()
    assert case.flops() > 0


def test_a_different_extractor_is_noticed(monkeypatch, sizes):
    build = extractor.build

    def spoilt(side, size):
        model = build(side, size)
        if side == "ours":
            with torch.no_grad():
                model.decoder.convtrans1d.weight.mul_(1.01)
        return model

    monkeypatch.setattr(extractor, "build", spoilt)
    with pytest.raises(Unequal, match="estimates differ by 1.0e-02"):
        extractor.cases(sizes)[1].equal()


def test_operations_of_dense_layers():
    layers = torch.nn.Sequential(
        torch.nn.Conv1d(3, 5, 2, stride=2), torch.nn.Conv1d(5, 5, 1, groups=5)
    ).append(torch.nn.ConvTranspose1d(5, 3, 4))
    x = torch.randn(2, 3, 8)
    forward = (2 * 2 * 4 * 5 * 3 * 2, 2 * 2 * 4 * 5 * 3 * 4)
    assert dense_flops(layers, lambda: layers(x)) == sum(forward)
    # the input needs no gradient
    trained = 2 * forward[0] + 3 * forward[1]
    assert dense_flops(layers, lambda: layers(x), training=True) == trained


def test_rates_name_the_best_call(monkeypatch):
    monkeypatch.setattr("bench.floors.SHAPES", ((8, 8, 8),))
    found = rates.__wrapped__(1, "float32")
    assert found["best"] >= found["torch.mm"] > 0 and found["best call"]


def test_joint():
    batch = joint.Batch(2, 0.4, 0.5)
    (case,) = joint.cases(batch)
    assert "loss to" in case.equal()
    for build in (case.ours, case.theirs):
        build()()
    tensors = joint.batch_of(batch)
    assert tensors["speech_mix_lengths"].tolist() == [8000, 6400]
    assert (tensors["speech_mix"][1, 6400:] == 0).all()


def test_blstm():
    (case,) = blstm.cases(3, 10, 4)
    assert "gradients to" in case.equal()
    for build in (case.ours, case.theirs):
        build()()


def test_asteroids_turns_are_taken_in_its_process(tmp_path, sizes):
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho '{\"flops\": 7}'\nwhile read -r line; do "
        'echo \'{"clock": 2.0, "cpu": 1.0}\'; done\n'
    )
    python.chmod(0o755)
    worker = asteroid.Worker(sizes["tiny"], True, 1, python)
    assert worker.flops == 7 and worker() == worker() == Seconds(2.0, 1.0)
    worker.close()
    assert worker.process.returncode == 0
    options = asteroid.conv_tasnet_options(extractor.load_config(sizes["tiny"]))
    assert options["n_blocks"] == 2 and options["hid_chan"] == 16 and options["n_filters"] == 16


def test_asteroid_that_is_not_there_is_said(monkeypatch, tmp_path, sizes):
    assert len(asteroid.cases(sizes)) == 2
    monkeypatch.setattr(asteroid, "PYTHON", tmp_path / "python")
    with pytest.raises(UserError, match="is not there"):
        asteroid.section(1)
    (tmp_path / "python").symlink_to("/bin/false")
    with pytest.raises(UserError, match="ended with status 1"):
        asteroid.Worker(sizes["tiny"], True, 1, tmp_path / "python")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    from espnet_tse_ser.bin import mixture_table

    root = tmp_path_factory.mktemp("simulation")
    corpora = write_corpora(root / "clean")
    mixture_table.main([*pool_options(corpora), "--output_dir", str(root / "mix")])
    simulation.write_list(root, 3)
    return root


def test_simulation(corpora):
    cases = simulation.cases(lambda: corpora)
    assert len({case.name for case in cases}) == 3
    assert simulation.describe(corpora).startswith("3 mixtures, ")
    assert cases[0].equal() == "9 files, levels given: to 0 of 32768"
    for case in cases:
        assert case.theirs()().cpu > 0
    assert not [p for p in corpora.iterdir() if p.name not in ("clean", "mix", "list.tsv")]


def test_other_mixtures_are_noticed(corpora):
    path = corpora / "list.tsv"
    before = path.read_text()
    rows = read_tsv(path)
    rows[1]["gain_target"] = str(float(rows[1]["gain_target"]) + 1)
    write_tsv(path, rows, list(rows[0]))
    try:
        with pytest.raises(Unequal, match="differs"):
            simulation.check_equal(lambda: corpora)
    finally:
        path.write_text(before)


def test_startup(tmp_path):
    (tmp_path / "data/mix/splits/fold1").mkdir(parents=True)
    (tmp_path / "data/mix/splits/fold1/test.lst").write_text("u1\nu2\n")
    commands = startup.work_commands(tmp_path, tmp_path) | startup.help_commands()
    assert "tse_train --help" in commands and "tse_train, until data" in commands
    assert all(isinstance(part, str) for argv in commands.values() for part in argv)
    noted = {"x": [Seconds(1, 1), Seconds(2, 1)], None: [Seconds(4, 3), Seconds(4, 3)]}
    table = startup.report(noted)
    assert "| x | 1.50 | 1.00 | 3.0 [2.0, 4.0] | 3.0 [3.0, 3.0] |" in table


def test_a_command_is_stopped_when_it_asks_for_data(tmp_path):
    (tmp_path / "trains.py").write_text(
        "import sys, torch\n"
        "if sys.argv[1] == 'data':\n"
        "    next(iter(torch.utils.data.DataLoader([1])))\n"
        "sys.exit(0)\n"
    )
    for argument, status in (("data", 0), ("none", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "bench.until_data", "trains", argument],
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
    assert "before it read data" in done.stderr


def test_data_wait(tmp_path):
    commands = data_wait.training_commands(MINI, tmp_path)
    assert list(commands) == ["TSE", "joint", "SER"]  # joint training starts from TSE's
    assert all(isinstance(part, str) for argv in commands.values() for part in argv)
    assert "normalize:" not in (tmp_path / "train_ser.yaml").read_text()
    table = data_wait.report({("TSE", 0): [(0.1, 0.5, 9.0), (0.3, 0.7, 8.0)]})
    assert "| TSE | 0 | 20.0 [10.0, 30.0] | 0.600 | 8.5 |" in table
    with pytest.raises(UserError, match="epoch results"):
        data_wait.read_log("nothing")


def test_peak_memory_is_what_steps_take():
    code = (
        "import json, numpy\nfrom bench.memory import peak_of\n"
        "freed = [bytes(1000) for _ in range(20000)]\ndel freed\n"
        "print(json.dumps(peak_of(lambda: numpy.ones(4 << 20))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == pytest.approx(32 << 20, rel=0.1)
