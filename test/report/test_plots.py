"""Plots are PNG files of the right content; training curves are read from epochs.tsv."""

import pytest
from declared import ROWS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.report import plots

EPOCHS = (
    "epoch\ttrain_loss\tvalid_loss\tvalid_ua\tnote\n"
    "1\t1.5\t1.6\t0.25\tx\n"
    "2\t1.0\tnan\t0.5\tx\n"
    "3\t0.8\t\t0.625\tx\n"
)


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 3000


def test_read_epochs(tmp_path):
    path = tmp_path / "epochs.tsv"
    path.write_text(EPOCHS)
    assert plots.read_epochs(path) == {
        ("loss", "train"): ([1, 2, 3], [1.5, 1.0, 0.8]),
        ("loss", "valid"): ([1], [1.6]),
        ("ua", "valid"): ([1, 2, 3], [0.25, 0.5, 0.625]),
    }


def test_broken_epochs(tmp_path):
    path = tmp_path / "epochs.tsv"
    path.write_text(EPOCHS.replace("1.0", "one"))
    with pytest.raises(UserError, match="line 3: epoch '2', train_loss 'one': not a number"):
        plots.read_epochs(path)
    path.write_text("train_loss\n1\n")
    with pytest.raises(UserError, match="column.* epoch missing"):
        plots.read_epochs(path)


def test_find_histories(tmp_path):
    trainings = ["tse_a", *(f"ser_clean_a/fold{run}" for run in ("2", "1_seed3", "1"))]
    for name in (*trainings, "scores/ft/default"):
        (tmp_path / name).mkdir(parents=True)
    for name in trainings:
        (tmp_path / name / "epochs.tsv").write_text(EPOCHS)
    found = plots.find_histories(tmp_path)
    assert found == {
        "tse_a": {"": tmp_path / "tse_a/epochs.tsv"},
        "ser_clean_a": {
            run: tmp_path / f"ser_clean_a/fold{run}/epochs.tsv" for run in ("1", "1_seed3", "2")
        },
    }


def test_plots_are_written(tmp_path):
    plots.plot_confusion(tmp_path / "c.png", [[3, 1], [0, 0]], ["ang", "sad"], "base")
    result = dict(fold="all", system="base", train="denoised", test="denoised", ua=0.5)
    result.update(ua_ci=[0.4, 0.6], confusion=[[3, 1], [0, 0]])
    other = dict(result, system="ft", ua_ci=None)
    row = dict(value="main", systems={"base": result, "ft": other})
    rows = [row, dict(row, value=-5), dict(row, value=0, systems={"base": result})]
    plots.plot_sweep(tmp_path / "s.png", dict(sweep="snr", rows=rows), ROWS, "optimistic")
    assert is_png(tmp_path / "s.png")
    plots.plot_ladder(tmp_path / "l.png", [result, other, dict(result, fold="1")], ROWS)
    path = tmp_path / "epochs.tsv"
    path.write_text(EPOCHS)
    history = plots.read_epochs(path)
    plots.plot_training(tmp_path / "t.png", {"1": history, "2": {}}, "ser_clean")
    assert all(is_png(tmp_path / name) for name in ("c.png", "l.png", "t.png"))
    for name in ("c", "s", "l", "t"):
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_seeds_of_a_fold_share_its_colour(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save_both", lambda figure, path: figures.append(figure))
    curve = {("ua", "valid"): ([1, 2], [0.25, 0.5])}
    plots.plot_training("t.png", {"1": curve, "1_seed3": curve, "2": curve}, "ser_clean")
    (axes,) = figures[0].axes
    main, further, other = (line for line in axes.lines if len(line.get_xdata()))
    assert main.get_color() == further.get_color() != other.get_color()
    assert further.get_linewidth() < main.get_linewidth() == other.get_linewidth()
    (legend,) = figures[0].legends
    assert [t.get_text() for t in legend.texts] == ["train", "valid", "fold 1", "fold 2"]


def test_plots_are_reproducible(tmp_path):
    for name in ("a.png", "b.png"):
        plots.plot_confusion(tmp_path / name, [[3, 1], [0, 5]], ["ang", "sad"], "base")
    for kind in ("png", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_trainings_are_shown_by_what_they_learn_and_whole_epochs(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save_both", lambda figure, path: figures.append(figure))
    curve = ([1, 2, 3], [0.5, 0.25, 0.2])
    statistics = {(name, "train"): curve for name in ("clip", "loss", "loss_scale")}
    plots.plot_training("t.png", {"1": statistics}, "tse")
    (axes,) = figures[0].axes
    assert axes.get_title() == "loss"
    figures[0].canvas.draw()
    assert all(tick == int(tick) for tick in axes.get_xticks())
