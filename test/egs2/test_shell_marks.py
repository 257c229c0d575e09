"""Steps of `tse_ser.sh` that are marked as done and whose files are gone."""

import re
import shutil

import pytest
from shell_recipes import STAND_IN, calls, make_egs2, make_recipe, run

WRITING = (
    STAND_IN
    + r"""
option() { # NAME WORDS...
    local word last
    for word; do [ "${last:-}" != "--$1" ] || echo "$word"; last=$word; done
}
dir=$(option output_dir "$@") file=$(option output "$@") audio=$(option output_audio "$@")
write() { mkdir -p "$(dirname "$1")"; echo x >"$1"; }
list() { write "$1/audio/a.flac"; echo "a $PWD/$1/audio/a.flac" >"$1/$2"; }
[ -z "$file" ] || write "$file"
[ -z "$audio" ] || list "$audio" wav.scp
case $2,$* in
    *.format_audio,*--combine* | *.simulate,*--combine* | *.extract,*--combine*)
        list "$dir" wav.scp; write "$dir/utt2spk"; write "$dir/spk2utt" ;;
    *.mixture_table,*) write "$dir/splits/fold1/test.lst" ;;
    *.ser_features,*--combine*)
        write "$dir/a.ark"; echo "a $PWD/$dir/a.ark:12" >"$dir/feats.scp"; write "$dir/index.tsv" ;;
    *.tse_stats,*) write "$dir/stats.json" ;;
    *.ser_stats,*) write "$dir/fold1/feats_stats.npz" ;;
    *_train,*) write "$dir/config.yaml"; write "$dir/1epoch.pth"
        ln -sf 1epoch.pth "$dir/valid.ua.best.pth" ;;
    *.score,*) for row in noisy_noisy joint_noisy; do
        write exp/scores/$row/default/score_utt.tsv; done ;;
    *.results,*) write exp/results.json; write exp/plots/ladder_ua.png ;;
    *.evaluate,*) write "$dir/noisy_noisy/default/score_utt.tsv" ;;
    *.sweeps_report,*) write exp/sweeps.json; write exp/plots/sweep_snr.png ;;
esac
"""
)
DONE = "--folds 1 --systems 'noisy_noisy joint_noisy'"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe of which all stages are done, by a stand-in that writes what is to be written."""
    directory = make_recipe(make_egs2(tmp_path_factory.mktemp("finished")))
    (directory / "stand_in").write_text(WRITING)
    (directory / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    result = run(directory, DONE)
    assert result.returncode == 0, result.stderr
    calls(directory)
    return directory


EXTRACTED = "exp/scores/joint_noisy/default/fold1/audio"
LOST = [  # files of a step, and what is done again when they are gone
    ("data/emo/wav.scp data/pretrain/utt2spk", "data.sh"),
    ("dump/clean/emo/wav.scp", "format_audio format_audio"),
    ("dump/clean/interferer/audio/a.flac", "format_audio format_audio"),
    ("data/mix/mixtures.tsv data/mix/splits/fold1/test.lst", "mixture_table"),
    ("dump/mix/wav.scp dump/mix/audio/a.flac", "simulate simulate"),
    ("dump/denoised_default/audio/a.flac", "extract extract"),
    ("dump/feats_default/noisy/a.ark", "ser_features ser_features"),
    ("exp/tse_stats_default/stats.json", "tse_stats"),
    ("exp/tse_default/scoring/score_utt.tsv", "tse_score"),
    ("exp/ser_stats_default/noisy/fold1/feats_stats.npz", "ser_stats"),
    ("exp/scores/noisy_noisy/default/fold1/hyp.tsv", "recognize"),
    (f"{EXTRACTED}/audio/a.flac {EXTRACTED}/wav.scp", "recognize"),
    ("exp/scores/noisy_noisy/default/score_utt.tsv", "score"),
    ("exp/RESULTS.md exp/results.json exp/plots/ladder_ua.png", "results"),
    ("exp/sweeps/snr_0/noisy_noisy/default/score_utt.tsv", "evaluate"),
    ("exp/RESULTS_SWEEPS.md exp/plots/sweep_snr.png", "sweeps_report"),
    ("exp/tse_ser_joint_noisy_default/fold1.zip", "pack"),
]


@pytest.mark.parametrize("which", [0, -1, "emptied"])
def test_what_was_written_and_is_gone_is_made_again(finished, which):
    """One file of every step at once: each looks at its own files, not at those of others."""
    gone = [files.split()[0 if which == "emptied" else which] for files, _ in LOST]
    for name in gone:
        (finished / name).unlink()
        if which == "emptied":
            (finished / name).touch()
    result = run(finished, DONE)
    assert result.returncode == 0, result.stderr
    expected = " ".join(commands for _, commands in LOST).split()
    assert sorted(c.split()[0] for c in calls(finished)) == sorted(expected)
    said = re.findall(r": again, as (\S+) is gone or empty", result.stdout)
    assert sorted(name.removeprefix(f"{finished}/") for name in said) == sorted(gone)
    assert all((finished / name).read_text() for name in gone)
    assert run(finished, DONE).returncode == 0 and calls(finished) == []


@pytest.mark.parametrize("stage", ["tse", "ser", "joint"])
@pytest.mark.parametrize("lost", ["valid.ua.best.pth", "1epoch.pth", "config.yaml"])
def test_a_training_whose_weights_are_gone_goes_on(finished, tmp_path, stage, lost):
    shutil.copytree(finished.parents[2], tmp_path, symlinks=True, dirs_exist_ok=True)
    copy = tmp_path / "egs2/new_mix/tse_ser1"
    name = {
        "tse": "tse_default",
        "ser": "ser_noisy_default/fold1",
        "joint": "tse_ser_joint_noisy_default/fold1",
    }
    directory = f"exp/{name[stage]}"
    (copy / directory / lost).unlink()
    result = run(copy, f"{DONE} --stage {stage} --stop_stage {stage}")
    assert result.returncode == 0, result.stderr
    gone = "valid.ua.best.pth" if lost == "1epoch.pth" else lost
    assert f"{directory}: again, as {directory}/{gone} is gone or empty" in result.stdout
    (call,) = calls(copy)
    assert call.split()[0] == {"joint": "tse_ser_train"}.get(stage, f"{stage}_train")


def test_a_directory_of_plots_that_is_removed(finished):
    shutil.rmtree(finished / "exp/plots")
    assert run(finished, DONE).returncode == 0
    assert [c.split()[0] for c in calls(finished)] == ["results", "sweeps_report"]


def test_what_belongs_to_nobody_may_go(finished):
    """A corpus' audio in a list, logs; and who has an older version's marks has no .wrote."""
    path = finished / "dump/clean/emo/wav.scp"
    path.write_text(path.read_text() + "b /corpora/b.wav\n")
    shutil.rmtree(finished / "dump/mix/log")
    (finished / "exp/scores/.wrote").unlink()
    (finished / "exp/scores/noisy_noisy/default/score_utt.tsv").unlink()
    result = run(finished, f"{DONE} --stop_stage score")
    assert result.returncode == 0 and calls(finished) == []
