"""Trainings on a table with every level, and towards a teacher's embeddings, by their commands."""

import hashlib

import numpy as np
import pytest
import torch
from tiny_commands import make_command

from espnet_tse_ser.audio.ark import read_array
from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin import mixture_table, recognize, refinement, ser_embed, ser_train, simulate
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.training.preprocessor import EmotionPreprocessor
from espnet_tse_ser.training.streams import OneOfTarget
from espnet_tse_ser.training.teacher import check_teacher

CRITERION = {"best_model_criterion": [["valid", "ua", "max"]], "one_per_target": True}
TRNET = {"model": "trnet", **CRITERION}


def test_one_mixture_of_each_target():
    target_of = {f"{target}_{level}": target for target in ("a", "b") for level in "012345"}
    preprocessor = EmotionPreprocessor(["x", "y"], seed=3)
    streams = [OneOfTarget({utt: (n, utt) for utt in target_of}, target_of, preprocessor)
               for n in range(2)]  # fmt: skip
    assert list(streams[0]) == ["a", "b"] and len(streams[0]) == 2
    drawn = {"a": [], "b": []}
    for epoch in range(120):
        preprocessor.epoch = epoch
        for target, found in drawn.items():
            (_, one), (_, other) = (stream[target] for stream in streams)
            assert one == other and target_of[one] == target
            found.append(one)
    assert drawn["a"] != [utt.replace("b", "a") for utt in drawn["b"]]
    counts = [drawn["a"].count(utt) for utt in target_of if target_of[utt] == "a"]
    assert min(counts) > 8 and sum(counts) == 120  # each as likely
    preprocessor.epoch = 7
    assert streams[0]["a"][1] == drawn["a"][7]


@pytest.fixture(scope="module")
def levels(tiny, tmp_path_factory):
    """The tiny mixtures at three levels each."""
    root = tmp_path_factory.mktemp("levels")
    pools = [
        word
        for kind, name in (("--targets", "emo"), ("--sources", "interferer"))
        for word in (kind, str(tiny["mixtures"] / name))
    ]
    table = [*pools, "--output_dir", str(root / "table")]
    how = ["--levels", "snr", "--snr_set", "clean 10 0", "--every_level", "--without_enrollment"]
    mixture_table.main([*table, *how])
    files = [*pools, "--table_dir", str(root / "table"), "--output_dir", str(root / "mix")]
    for combine in ([], ["--combine"]):
        simulate.main([*files, *combine])
    return tiny | {"mixtures": root, "config": tiny["mixtures"]}


def train(levels, directory, scp, *further, **changes):
    torch.set_num_threads(1)
    directory.mkdir()
    root = levels["mixtures"]
    (root / "emo").exists() or (root / "emo").symlink_to(levels["config"] / "emo")
    command = make_command("ser", directory, levels, max_epoch=2, **changes)
    command[command.index("--scp") + 1] = str(root / "mix" / scp)
    ser_train.main([*command, "--output_dir", str(directory / "exp"), *further])
    return directory / "exp"


def embed(levels, model_dir, directory, fold="fold1"):
    root = levels["mixtures"]
    ser_embed.main(
        *[["--model_dir", str(model_dir), "--data_dir", str(root / "mix"),
           "--scp", str(root / "mix/spk1.scp"), "--split", str(root / "table/splits" / fold),
           "--output_dir", str(directory)]]
    )  # fmt: skip
    return directory / "embeddings.scp"


@pytest.fixture(scope="module")
def teacher(levels, tmp_path_factory):
    return train(levels, tmp_path_factory.mktemp("teacher") / "c", "spk1.scp", **CRITERION)


def test_from_a_teacher_to_hypotheses(levels, teacher, tmp_path):
    mix, split = (levels["mixtures"] / name for name in ("mix", "table/splits/fold1"))
    train_ids = read_ids(split / "train.lst")
    targets = {m.target for m in read_mixtures(mix / "mixtures.tsv") if m.mixture in train_ids}
    assert len(train_ids) == 3 * len(targets)
    assert read_table(teacher / "data/train/utt2emo").keys() == targets
    assert read_table(teacher / "data/train/speech.scp").keys() == set(train_ids)
    weights = {p: hashlib.sha256(p.read_bytes()).digest() for p in teacher.glob("*.pth")}

    table = embed(levels, teacher, tmp_path / "embeddings")
    model = TSESER.from_pretrained(teacher)
    places = read_table(table)
    assert places.keys() == {*train_ids, *read_ids(split / "dev.lst")}
    utt = train_ids[1]
    from espnet_tse_ser.audio.reading import read_mono

    clean = read_mono(read_table(mix / "spk1.scp")[utt], 16000)
    np.testing.assert_allclose(read_array(places[utt]), model.embed([clean])[0], atol=1e-5)

    exp = train(levels, tmp_path / "t", "wav.scp", "--embeddings", str(table), **TRNET)
    rows = read_tsv(exp / "epochs.tsv")
    assert len(rows) == 2
    for phase in ("train", "valid"):
        assert all(float(row[f"{phase}_{name}"]) > 0 for row in rows for name in ("low", "high"))
    assert {p: hashlib.sha256(p.read_bytes()).digest() for p in teacher.glob("*.pth")} == weights
    recognize.main(
        ["--model_dir", str(exp), "--data_dir", str(mix), "--scp", str(mix / "wav.scp")]
        + ["--ids", str(split / "test.lst"), "--output", str(tmp_path / "hyp.tsv")]
    )
    found = {row["id"] for row in read_tsv(tmp_path / "hyp.tsv")}
    assert found == {*read_ids(split / "test.lst")} and any(i.endswith("_clean") for i in found)

    exp.rename(exp.with_name("fold1"))
    refinement.main(
        ["--model_dir", str(tmp_path / "t"), "--data_dir", str(mix), "--scp", str(mix / "wav.scp")]
        + [
            "--table_dir",
            str(split.parents[1]),
            "--folds",
            "1",
            "--output_dir",
            str(tmp_path / "r"),
        ]
    )
    rows = read_tsv(tmp_path / "r/refinement.tsv")
    assert {row["id"] for row in rows} == found and {row["level"] for row in rows} == {
        *("clean", "10", "0")
    }
    text = (tmp_path / "r/REFINEMENT.md").read_text()
    scores = [float(row["score"]) for row in rows if row["level"] == "10"]
    assert f"| 10 dB | {len(scores)} | 4 | {np.mean(scores):.3f} [" in text
    assert text.index("| 0 dB |") < text.index("| 10 dB |") < text.index("| clean |")
    assert all(
        (tmp_path / "r" / f"{n}.png").stat().st_size > 5000 for n in ("scores", "embeddings")
    )


def test_a_teacher_of_another_fold(levels, teacher, tmp_path):
    tested = read_ids(levels["mixtures"] / "table/splits/fold2/test.lst")
    seen = {*read_ids(levels["mixtures"] / "table/splits/fold1/train.lst")}
    first = min(seen & {*tested})
    with pytest.raises(
        UserError, match=rf"trained on \d+ utterance\(s\) that .*fold2/test.lst.*{first}"
    ):
        embed(levels, teacher, tmp_path / "embeddings", "fold2")
    table = embed(levels, teacher, tmp_path / "embeddings")
    split = tmp_path / "split"  # of loso_speaker: another fold's test speaker is this one's dev
    split.mkdir()
    for name, ids in (
        ("dev", tested[:1]),
        ("test", sorted(read_table(teacher / "data/dev/utt2emo"))),
    ):
        (split / f"{name}.lst").write_text("".join(f"{i}\n" for i in ids))
    with pytest.raises(UserError, match="embeddings.scp: the teacher was chosen by"):
        check_teacher(None, split, table)
    (split / "dev.lst").write_text((split / "test.lst").read_text())  # best_test_epoch
    check_teacher(None, split, table)
    options = (
        "--embeddings",
        str(table),
        "--split",
        str(levels["mixtures"] / "table/splits/fold2"),
    )
    with pytest.raises(UserError, match=f"embeddings.scp: the teacher was trained on .*{first}"):
        train(levels, tmp_path / "t", "wav.scp", *options, **TRNET)


def test_a_teacher_without_effect(levels, teacher, tmp_path, caplog):
    table = embed(levels, teacher, tmp_path / "embeddings")
    with pytest.raises(UserError, match="model: emotion: is not trained towards a teacher"):
        train(levels, tmp_path / "t", "wav.scp", "--embeddings", str(table), **CRITERION)
    (table.parent / "teacher_dev.lst").unlink()
    check_teacher(None, levels["mixtures"] / "table/splits/fold2", table)
    assert "what the teacher was trained on is not recorded" in caplog.text


def test_a_model_of_two_inputs_is_no_teacher(levels, teacher, tmp_path):
    table = embed(levels, teacher, tmp_path / "embeddings")
    exp = train(levels, tmp_path / "t", "wav.scp", "--embeddings", str(table), **TRNET)
    with pytest.raises(UserError, match="recognises from speech, mixture; a teacher recognises fr"):
        embed(levels, exp, tmp_path / "more")
