"""Timelines of dialogues: their truth, and what is counted."""

import pytest
import soundfile

from bench import timelines
from espnet_tse_ser.errors import run
from espnet_tse_ser.inference.timeline import Part


@pytest.fixture
def words(tiny_mixtures):
    lists = tiny_mixtures / "table/splits/fold1"
    return [f"--data_dir={tiny_mixtures / 'mix'}", f"--ids={lists / 'train.lst'}", "--turns=4"]


def _table(text):
    return [[cell.strip() for cell in line.strip("| \n").split("|")] for line in text.splitlines()]


def test_what_is_everywhere_is_found_everywhere(words, joint_dir, capsys):
    more = ["--dialogues=2", "--presence_db=-200", "--floor_db=200", f"a={joint_dir}"]
    assert run(timelines.main, [*words, *more]) == 0
    printed = capsys.readouterr().out
    rows = _table(printed)[2:]
    assert sum(int(row[2]) for row in rows) == 2
    for name, _, _, precision, recall, accuracy in rows:
        assert name == "a" and recall == "1.00" and 0 <= float(accuracy) <= 100
        assert 0.05 < float(precision) < 0.8  # two speak, and there are pauses
    assert run(timelines.main, [*words, *more]) == 0 and capsys.readouterr().out == printed


def test_the_truth(words, joint_dir, capsys, monkeypatch):
    """Found is what a stand-in says, of the dialogue that it gets."""
    seen = []

    def find(model, recording, enrollment, directory, **settings):
        samples, rate = soundfile.read(recording.path)
        is_speech = abs(samples) > 0
        seen.append(len(samples) / rate)
        # The target has the first word, until the first long silence.
        end = silent = 0
        for at, there in enumerate(is_speech):
            silent = 0 if there else silent + 1
            if silent > 0.15 * rate:
                break
            end = at if there else end
        return [Part(0.0, end / rate, 0, None, None, {"ang": 1.0, "sad": 0.0})], None, {}

    monkeypatch.setattr(timelines, "find_parts", find)
    assert run(timelines.main, [*words, "--dialogues=1", f"a={joint_dir}"]) == 0
    ((_, _, count, precision, recall, accuracy),) = _table(capsys.readouterr().out)[2:]
    assert count == "1" and len(seen) == 1
    assert float(precision) > 0.98 and 0.2 < float(recall) < 0.8 and accuracy in ("0", "100")


def test_messages(words, joint_dir, ser_dir, tmp_path, tiny_mixtures, capsys):
    for given, message in (
        ([str(joint_dir)], "expected NAME=MODEL"),
        ([f"a={ser_dir}"], "takes no enrollment; leave it out"),
    ):
        assert run(timelines.main, [*words, *given]) == 2
        assert message in capsys.readouterr().err
    ids = tmp_path / "one.lst"
    ids.write_text((tiny_mixtures / "table/splits/fold1/train.lst").read_text().split()[0] + "\n")
    assert run(timelines.main, [*words, f"--ids={ids}", "a=b"]) == 2
    assert "a dialogue needs utterances of two speakers" in capsys.readouterr().err
