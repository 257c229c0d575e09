"""TSETask: the recipes' configurations, our extractor in ESPnet's task, validation mixtures."""

import re
from pathlib import Path

import pytest
import torch

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.frontends.spectral.extractor import SpectralExtractor
from espnet_tse_ser.frontends.td_speakerbeam.extractor import TDSpeakerBeamExtractor
from espnet_tse_ser.tasks import pretraining
from espnet_tse_ser.tasks.options import parse_task_options

EGS = Path(__file__).parents[2] / "egs2"
CONFIGS = sorted(
    {
        p.resolve()
        for p in EGS.glob("*/tse_ser1/conf/**/train_tse*.yaml")
        if p.is_file() and "train_tse_ser" not in p.name
    }
)
DEBUG = ["--config", str(EGS / "mini_iemocap_mix/tse_ser1/conf/train_tse_debug.yaml")]


@pytest.fixture(scope="module")
def task():
    from espnet_tse_ser.tasks.tse import TSETask  # its import takes ten seconds

    return TSETask


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parts[-4]}-{p.stem}")
def test_configurations_of_the_recipes(task, path):
    options = parse_task_options(task, ["--config", str(path)])
    if options.model_conf.get("speaker_loss_weight", 0) > 0:
        options.model_conf["num_speakers"] = 10  # else counted in the pool
    model = task.build_model(options).eval()
    kinds = {"td_speakerbeam": TDSpeakerBeamExtractor, "spectral": SpectralExtractor}
    assert isinstance(model.extractor, kinds[options.extractor])
    with torch.no_grad():
        estimate, _ = model.extract(*[torch.randn(1, 4000), torch.tensor([4000])] * 2)
    assert estimate.shape == (1, 4000) and torch.isfinite(estimate).all()


def test_there_are_configurations_of_the_recipes():
    assert CONFIGS


def test_espnets_own_task_keeps_its_extractor(task):
    from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor as Theirs
    from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask

    choices = {c.name: c for c in TargetSpeakerExtractionTask.class_choices_list}
    assert choices["extractor"].get_class("td_speakerbeam") is Theirs
    ours = {c.name: c for c in task.class_choices_list}
    assert ours["extractor"].get_class("td_speakerbeam") is TDSpeakerBeamExtractor


def test_validation_is_fixed_and_of_other_speakers(task, tiny_pool):
    conf = ["segment=3200", "enroll_segment=3200", "steps_per_epoch=4", "valid_examples=5"]
    command = [*DEBUG, "--pool", str(tiny_pool), "--batch_size", "2", "--seed", "3"]
    command += [o for c in [*conf, "valid_share=0.2"] for o in ("--mixing_conf", c)]
    options = parse_task_options(task, command)
    train, valid = (task.build_task_iter_factory(options, None, m) for m in ("train", "valid"))
    first, second = (list(valid.build_iter(e)) for e in (1, 2))
    assert [len(ids) for ids, _ in first] == [2, 2, 1]
    for (ids, batch), (ids_again, batch_again) in zip(first, second, strict=True):
        assert ids == ids_again
        assert all(torch.equal(batch[name], batch_again[name]) for name in batch)
    drawn = list(train.build_iter(1))
    assert [len(ids) for ids, _ in drawn] == [2] * 4
    _, other = next(iter(train.build_iter(2)))
    assert not torch.equal(drawn[0][1]["speech_mix"], other["speech_mix"])
    # Ids are "<target utterance>-<interferer utterance>", here p0-1-p3-0.
    trained, held_out = (
        {s for ids, _ in b for i in ids for s in i.split("-")[::2]} for b in (drawn, first)
    )
    assert trained and held_out and not trained & held_out


def test_both_talkers_of_a_mixture_are_in_one_batch(task, tiny_pool, monkeypatch):
    conf = ["segment=3200", "enroll_segment=3200", "steps_per_epoch=3", "valid_share=0.2"]
    conf += ["valid_examples=5", "both=true"]
    command = [*DEBUG, "--pool", str(tiny_pool), "--batch_size", "4", "--seed", "3"]
    options = parse_task_options(task, command + [o for c in conf for o in ("--mixing_conf", c)])
    valid = list(task.build_task_iter_factory(options, None, "valid").build_iter(1))
    assert sum(len(set(ids)) for ids, _ in valid) == 5
    factory = task.build_task_iter_factory(options, None, "train")
    epochs = [list(factory.build_iter(e)) for e in (1, 1, 2)]
    for ids, batch in epochs[0]:
        assert ids[::2] == ids[1::2] and len(set(ids)) == 2
        assert torch.equal(batch["speech_mix"][::2], batch["speech_mix"][1::2])
        assert not torch.equal(batch["enroll_ref1"][::2], batch["enroll_ref1"][1::2])
    mixtures = [torch.cat([batch["speech_mix"] for _, batch in epoch]) for epoch in epochs]
    assert torch.equal(*mixtures[:2]) and not torch.equal(*mixtures[1:])
    for rank in (0, 1):
        monkeypatch.setattr(pretraining, "part_of_process", lambda rank=rank: (rank, 2))
        part = list(task.build_task_iter_factory(options, None, "train").build_iter(1))
        for (_, batch), (_, whole) in zip(part, epochs[0], strict=True):
            assert torch.equal(batch["speech_ref1"], whole["speech_ref1"][rank::2])


def test_the_speaker_loss_has_the_speakers_that_are_trained_on(task, tiny_pool):
    for share, speakers in ((1.0, 4), (0.5, 2)):
        conf = ["segment=3200", "enroll_segment=3200", "steps_per_epoch=4", "valid_share=0.2"]
        conf += [f"speaker_share={share}"]
        command = ["--config", str(EGS / "ravdess_mix/tse_ser1/conf/train_tse.yaml")]
        command += ["--pool", str(tiny_pool), "--seed", "3"]
        command += [o for c in conf for o in ("--mixing_conf", c)]
        options = parse_task_options(task, command)
        task.build_model(options)
        assert options.model_conf["num_speakers"] == speakers
        train = task.build_task_iter_factory(options, None, "train")
        labels = {int(i) for _, batch in train.build_iter(1) for i in batch["speaker"]}
        assert labels == set(range(speakers))


def test_an_error_in_a_mixing_process_is_one_line(task, tiny_pool, capsys):
    command = [*DEBUG, "--pool", str(tiny_pool), "--sample_rate", "8000", "--num_workers", "1"]
    command += ["--mixing_conf", "segment=3200", "--mixing_conf", "enroll_segment=3200"]
    options = parse_task_options(task, command)

    def main(argv):
        list(task.build_task_iter_factory(options, None, "train").build_iter(1))

    assert run(main) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: /\S+/p\d-\d.wav: rate is 16000 Hz", line)


def test_the_pool_is_needed(task):
    options = parse_task_options(task, DEBUG)
    with pytest.raises(UserError, match="--iterator_type task needs --pool"):
        task.build_task_iter_factory(options, None, "train")


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--no_such_option", "1"], "unrecognized arguments: --no_such_option"),
        (
            ["--extractor", "absent"],
            "--extractor: expected one of td_speakerbeam, tcn, spectral, got 'absent'",
        ),
        (["--config", "none.yaml"], "none.yaml: no such configuration"),
        ([*DEBUG, "--mixing_conf", "speed=0.1"], "speed is of both talkers, whom only both: true"),
        (
            [*DEBUG, "--mixing_conf", "both=true", "--batch_size", "3"],
            "both is of pairs; give an even batch_size, not 3",
        ),
        (
            [*DEBUG, "--mixing_conf", "both=true", "--mixing_conf", "snr=[0,5]"],
            "both is of pairs at an SNR and at minus that; give a snr around 0, not .0.0, 5.0.",
        ),
    ],
)
def test_wrong_options_are_user_errors(task, further, message):
    with pytest.raises(UserError, match=message):
        parse_task_options(task, further)
