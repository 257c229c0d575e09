"""Stage 13: comparing mixtures and extracted speech with their targets."""

import json

import numpy as np
import pytest

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.audio.reading import read_audio, write_audio
from espnet_tse_ser.bin import preservation
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.metrics.preservation import MEASURES, acoustic_measures, kl_divergence, track
from espnet_tse_ser.report.preservation_table import COLUMNS
from espnet_tse_ser.report.stamp import commit_of

LABELS = ["ang", "hap", "neu", "sad"]
FS = 16000


@pytest.fixture
def dirs(tmp_path, tiny_mixtures):
    """An "extracted" wav.scp for each fold, and the recogniser's tables on everything."""
    rng = np.random.default_rng(0)
    mix = tiny_mixtures / "mix"
    targets, mixtures = read_table(mix / "spk1.scp"), read_table(mix / "wav.scp")
    table = read_tsv(mix / "mixtures.tsv")
    for fold in "12":
        test = [row for row in table if row["fold"] == fold]
        extracted = {}
        for row in test:
            uid = row["mixture"]
            target, mixture = (read_audio(t[uid])[0][:, 0] for t in (targets, mixtures))
            extracted[uid] = tmp_path / f"audio/{uid}.flac"
            write_audio(extracted[uid], 0.8 * target + 0.2 * mixture, FS)
        write_table(tmp_path / f"ft/fold{fold}/wav.scp", extracted)
        for name in ("clean", "noisy", "ft"):
            rows = []
            for row in test:
                posteriors = rng.dirichlet(np.ones(4))
                best = LABELS[int(posteriors.argmax())]
                hypothesis = dict(id=row["mixture"], reference=row["emotion"], hypothesis=best)
                columns = (f"p_{label}" for label in LABELS)
                hypothesis |= dict(zip(columns, posteriors.round(6), strict=True))
                rows.append(hypothesis)
            write_tsv(tmp_path / f"clean_{name}/fold{fold}/hyp.tsv", rows, list(rows[0]))
    return tmp_path, mix


def arguments(dirs, *more, hyp=True):
    root, mix = dirs
    conditions = {"noisy": f"{mix}/wav.scp", "ft": f"{root}/ft/fold{{fold}}/wav.scp"}
    options = [f"--data_dir={mix}", f"--output_dir={root}/out"]
    for name, scp in conditions.items():
        hyps = [f"{root}/clean_{name}/fold{{fold}}/hyp.tsv"] if hyp else []
        options += ["--condition", name, scp, *hyps]
    return [*options, *([f"--clean_hyp={root}/clean_clean/fold{{fold}}/hyp.tsv"] * hyp), *more]


def hyp_of(root, name, uid):
    paths = sorted(root.glob(f"clean_{name}/fold*/hyp.tsv"))
    (row,) = [row for path in paths for row in read_tsv(path) if row["id"] == uid]
    return row, [float(row[f"p_{label}"]) for label in LABELS]


def test_table_and_figures(dirs):
    root, mix = dirs
    preservation.main(arguments(dirs, "--scheme", "best_test_epoch"))
    rows = read_tsv(root / "out/preservation_utt.tsv", COLUMNS)
    assert len(rows) == 2 * 40 and [row["condition"] for row in rows[:2]] == ["noisy", "ft"]
    row = rows[25]
    uid = row["id"]
    (entry,) = [r for r in read_tsv(mix / "mixtures.tsv") if r["mixture"] == uid]
    for column in ("speaker", "gender", "fold", "emotion", "gender_state"):
        assert row[column] == entry[column]
    target, other = (
        track(read_audio(path)[0][:, 0])
        for path in (read_table(mix / "spk1.scp")[uid], root / f"audio/{uid}.flac")
    )
    expected = acoustic_measures(target, other)
    assert int(row["voiced"]) == expected["voiced"]
    for name in MEASURES:
        value = float(row[name] or "nan")
        assert value == pytest.approx(expected[name], abs=1e-6, nan_ok=True), name
    (clean, p), (ft, q) = (hyp_of(root, name, uid) for name in ("clean", "ft"))
    assert float(row["kl"]) == pytest.approx(kl_divergence(p, q), abs=1e-6)
    assert (row["clean_hypothesis"], row["hypothesis"]) == (clean["hypothesis"], ft["hypothesis"])
    assert float(row["agreement"]) == (clean["hypothesis"] == ft["hypothesis"])
    figures = json.loads((root / "out/preservation.json").read_text())
    assert set(figures) == {"scheme", "summary", "changes", "recognition", "prediction"}
    assert figures["scheme"]["optimistic"] and figures["scheme"]["folds"] == ["1", "2"]
    noisy, ft = (
        next(s for s in figures["summary"] if s["condition"] == c and s["emotion"] == "all")
        for c in ("noisy", "ft")
    )
    for name in ("si_sdr", "energy_corr", "f0_corr"):
        assert ft[name]["mean"] > noisy[name]["mean"]
    assert [r["condition"] for r in figures["recognition"]] == ["clean", "noisy", "ft"]
    text = (root / "out/PRESERVATION.md").read_text()
    assert "## By emotion: ft" in text
    # every table is marked
    assert text.count("## ") == text.count("optimistic: epoch chosen on the test fold**")


def test_number_of_processes_does_not_matter(dirs):
    root, _ = dirs
    preservation.main(arguments(dirs))
    first = {path.name: path.read_bytes() for path in (root / "out").iterdir()}
    preservation.main(arguments(dirs, "--nj", "2"))
    assert {path.name: path.read_bytes() for path in (root / "out").iterdir()} == first
    assert len(first) == 3


def test_without_posteriors_and_with_one_fold(dirs):
    root, mix = dirs
    table_dir = f"--table_dir={mix.parent}/table"
    preservation.main(arguments(dirs, "--folds", "2", table_dir, hyp=False))
    rows = read_tsv(root / "out/preservation_utt.tsv")
    assert {row["fold"] for row in rows} == {"2"}
    assert {row["kl"] + row["agreement"] + row["hypothesis"] for row in rows} == {""}
    figures = json.loads((root / "out/preservation.json").read_text())
    assert figures["prediction"] == figures["recognition"] == []
    stamp = figures["scheme"]
    assert (stamp["tested"], stamp["utterances"], stamp["seeds"]) == (len(rows) // 2, 40, [])
    text = (root / "out/PRESERVATION.md").read_text()
    assert f"| git commit | {commit_of() or 'n/a'} |\n\n## By condition" in text
    assert f"dev: by speaker, 50.0 % of the training side; fold 2; {len(rows) // 2} of 40" in text


def test_emotion_similarity(dirs, ser_dir):
    root, mix = dirs
    (root / "ser").mkdir()
    for fold in "12":
        (root / f"ser/fold{fold}").symlink_to(ser_dir)
    uid, path = next(iter(read_table(root / "ft/fold1/wav.scp").items()))
    targets = read_table(mix / "spk1.scp")
    write_audio(path, 0 * read_audio(path)[0][:, 0], FS)  # silence has an embedding, too
    other = sorted(read_table(root / "ft/fold2/wav.scp"))[3]
    write_audio(root / f"audio/{other}.flac", 0.5 * read_audio(targets[other])[0][:, 0], FS)
    preservation.main(arguments(dirs, f"--clean_model={root}/ser/fold{{fold}}", hyp=False))
    rows = {(r["id"], r["condition"]): r for r in read_tsv(root / "out/preservation_utt.tsv")}
    found = {key: float(row["emotion_similarity"]) for key, row in rows.items()}
    assert all(-1 <= value <= 1 for value in found.values())
    assert found[other, "ft"] == pytest.approx(1, abs=1e-4)  # whatever the level
    model = TSESER.from_pretrained(ser_dir)
    mixture = read_table(mix / "wav.scp")[other]
    one, two = (model.embed([read_audio(p)[0][:, 0]])[0] for p in (targets[other], mixture))
    expected = one @ two / np.sqrt((one @ one) * (two @ two))
    assert found[other, "noisy"] == pytest.approx(expected, abs=1e-4) and expected < 0.9999
    text = (root / "out/PRESERVATION.md").read_text()
    assert "| emotion similarity: cosine with clean speech's | " in text
    with pytest.raises(UserError, match="--clean_model x: is to have {fold} in its name"):
        preservation.main(arguments(dirs, "--clean_model=x"))


def test_silent_extraction_is_a_result(dirs):
    root, _ = dirs
    uid, path = next(iter(read_table(root / "ft/fold1/wav.scp").items()))
    write_audio(path, np.zeros(len(read_audio(path)[0])), FS)
    preservation.main(arguments(dirs))
    rows = read_tsv(root / "out/preservation_utt.tsv")
    (row,) = [r for r in rows if r["id"] == uid and r["condition"] == "ft"]
    assert row["energy_corr"] == "" and row["voiced"] == "0" and float(row["si_sdr"]) == -100
    assert "ft: f0_corr " in (root / "out/PRESERVATION.md").read_text()


@pytest.mark.parametrize("nj", ["1", "2"])
def test_extracted_speech_of_another_length(dirs, nj):
    root, _ = dirs
    uid, path = next(iter(read_table(root / "ft/fold1/wav.scp").items()))
    samples = read_audio(path)[0][:-160, 0]
    write_audio(path, samples, FS)
    message = f"{uid}.flac: {len(samples)} samples.* target has {len(samples) + 160} samples"
    with pytest.raises(UserError, match=message):
        preservation.main(arguments(dirs, "--nj", nj))
    assert not (root / "out").exists()


def test_wrong_tables(dirs):
    root, _ = dirs
    path = root / "clean_ft/fold2/hyp.tsv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"clean_ft/fold2/hyp.tsv: 1 of 20 id\(s\) are missing"):
        preservation.main(arguments(dirs))
    path.write_text("".join(lines).replace("p_hap", "p_joy").replace("hap", "joy"))
    with pytest.raises(UserError, match="classes are ang joy neu sad, but ang hap neu sad"):
        preservation.main(arguments(dirs))
    rows = read_tsv(root / "clean_noisy/fold1/hyp.tsv")
    rows[0]["reference"] = "sad" if rows[0]["reference"] == "ang" else "ang"
    write_tsv(root / "clean_noisy/fold1/hyp.tsv", rows, list(rows[0]))
    with pytest.raises(
        UserError, match="reference is .* but the mixture table says .* run stage 12"
    ):
        preservation.main(arguments(dirs))


@pytest.mark.parametrize(
    "more, hyp, message",
    [
        (["--condition", "x", "a.scp"], True, "x: expected NAME SCP HYP with --clean_hyp, got x a"),
        (["--condition", "x", "a", "b"], False, "x: expected NAME SCP without --clean_hyp, got x"),
        (["--condition", "x"], False, "x: expected NAME SCP without --clean_hyp, got x$"),
        (["--condition", "ft", "a.scp"], False, "ft: the name is taken"),
        (["--condition", "clean", "a.scp"], False, "clean: the name is taken"),
        (["--condition", "../x", "a.scp"], False, "--condition: '../x' cannot be an id"),
        (["--condition", "", "a.scp"], False, "--condition: '' cannot be an id"),
        (["--condition", "a\tb", "a.scp"], False, "--condition: .* cannot be an id"),
        (["--condition", "x", "none.scp"], False, "none.scp: no such file"),
        (["--folds", "3"], False, "no fold 3"),
        (["--folds", " "], False, "--folds is empty"),
    ],
)
def test_wrong_options(dirs, more, hyp, message):
    with pytest.raises(UserError, match=message):
        preservation.main(arguments(dirs, *more, hyp=hyp))
    assert not (dirs[0] / "out").exists()


def test_help(capsys):
    with pytest.raises(SystemExit):
        run(preservation.main, ["--help"])
    assert "stands for the test fold" in capsys.readouterr().out
