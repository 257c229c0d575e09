"""What a core-minute is worth: two trainings in turns, on the same mixtures, and their tables."""

import pytest
from tiny_corpora import write_corpora

from bench import per_core_hour
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_tsv, write_text

MIXING = """mixing_conf: {segment: 3200, enroll_segment: 3200, valid_share: 0.34, alone_share: 0.3}
batch_size: 2
optim: muon
optim_conf: {lr: 1e-3}
"""


@pytest.fixture
def config(tse_config, tmp_path):
    import yaml

    path = tmp_path / "tse.yaml"
    write_text(path, yaml.safe_dump(tse_config) + MIXING)
    return path


def test_curves(config, tmp_path, capsys):
    pool = write_corpora(tmp_path / "corpora").pretrain
    options = ["--pool", str(pool), "--minutes", "0.02", "--slice", "0.7", "--valid", "4"]
    trainings = [f"first={config}", f"second={config},mixing_conf.both=true,optim=adam"]
    assert run(per_core_hour.main, [*options, "--output", str(tmp_path / "out"), *trainings]) == 0
    rows = read_tsv(tmp_path / "out/curves.tsv")
    assert [row["configuration"] for row in rows] == ["first", "second"] * 2
    for row in rows:
        assert int(row["mixtures"]) == 2 * int(row["steps"]) > 0
        assert 0 <= float(row["wrong_speaker"]) <= 1 and abs(float(row["si_sdri"])) < 60
    assert float(rows[2]["core_minutes"]) > float(rows[0]["core_minutes"]) > 0
    table = (tmp_path / "out/curves.md").read_text().splitlines()
    assert len(table) == 4 and table[2].startswith("| first | 0.0 M | 0 |")
    assert (tmp_path / "out/curves.png").stat().st_size > 1000
    assert run(per_core_hour.main, [*options, "--output", str(tmp_path), "nameless.yaml"]) == 2
    assert "expected NAME=CONFIG[,key=value...]" in capsys.readouterr().err
