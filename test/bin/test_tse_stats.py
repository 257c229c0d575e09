"""Stage 5: statistics of the pretraining pool."""

import pytest
from tiny_corpora import write_noise

from espnet_tse_ser.bin import tse_stats
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_json


def stats(config, pool, output_dir, *more):
    options = [f"--config={config}", f"--pool={pool}", f"--output_dir={output_dir}"]
    return run(tse_stats.main, [*options, *more])


def test_statistics(tmp_path, tiny_pool):
    config = tmp_path / "train_tse.yaml"
    config.write_text("mixing_conf: {segment: 4000, enroll_segment: 4000, valid_share: 0.4}\n")
    assert stats(config, tiny_pool, tmp_path) == 0
    written = read_json(tmp_path / "stats.json")
    assert written["utterances"] == 12 and written["speakers"] == 6
    assert written["train"]["left_out"] == []


def test_a_share_of_the_speakers(tmp_path, tiny_pool):
    config = tmp_path / "train_tse.yaml"
    found = {}
    for share in (1.0, 0.5):
        config.write_text(
            "mixing_conf: {segment: 4000, enroll_segment: 4000, valid_share: 0.4, "
            f"speaker_share: {share}}}\n"
        )
        assert stats(config, tiny_pool, tmp_path) == 0
        found[share] = read_json(tmp_path / "stats.json")
    assert found[0.5]["valid"] == found[1.0]["valid"]
    assert found[0.5]["train"]["speakers"] < found[1.0]["train"]["speakers"]
    assert 0 < found[0.5]["train"]["seconds"] < found[1.0]["train"]["seconds"]
    sides = [found[1.0][side]["seconds"] for side in ("train", "valid")]
    assert sum(sides) == pytest.approx(found[1.0]["seconds"], abs=0.01)


def test_noise_without_enrollments(tmp_path, tiny_pool):
    config, noise = tmp_path / "train_se.yaml", write_noise(tmp_path / "noise")
    config.write_text(
        "mixing_conf: {segment: 4000, enroll_segment: null, valid_share: 0.4, snr: [4, 6]}\n"
    )
    assert stats(config, tiny_pool, tmp_path, "--noise", str(noise)) == 0
    for side in ("train", "valid"):
        found = read_json(tmp_path / "stats.json")[side]
        assert 4 < found["si_sdr_mix_mean"] < 6 and found["left_out"] == []
    assert stats(config, tiny_pool, tmp_path, "--noise", str(tmp_path / "none")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixing_conf: [\n", "{config}: line 2: not valid YAML"),
        ("- segment\n", "{config}: expected a mapping of options, got list"),
        ("sample_rate: 16k\n", "{config}: sample_rate: expected a whole number of 1000"),
        ("mixing_conf:\n", "{config}: mixing_conf: expected a mapping of options, got None"),
    ],
)
def test_wrong_configurations(tmp_path, tiny_pool, capsys, text, message):
    config = tmp_path / "train_tse.yaml"
    config.write_text(text)
    assert stats(config, tiny_pool, tmp_path) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: " + message.format(config=config))
