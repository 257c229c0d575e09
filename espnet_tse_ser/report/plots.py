"""Plots as PNG and PDF: confusion matrices, training curves, the ladder of UA and sweeps."""

import math
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path, read_tsv
from espnet_tse_ser.report import results_report as report
from espnet_tse_ser.values.ids import fold_key

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
_UNTOLD = {"clip", "loss_scale"}  # of ESPnet's trainer: how often it clips, AMP's scale


def plot_confusion(path, confusion, labels, title):
    """Draw a confusion matrix ``(K, K)`` (rows: reference): shares of the row and counts."""
    figure, axes = new_figure(1.5 + 0.8 * len(labels), 1.3 + 0.7 * len(labels))
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            axes.text(
                j,
                i,
                f"{100 * shares[i][j]:.0f} %\n{count}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[i][j] > 0.6 else "black",
            )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("hypothesis")
    axes.set_ylabel("reference")
    axes.set_title(title)
    _save_both(figure, path)


def plot_ladder(path, results, systems, title=""):
    """Draw UA and its interval of every system, folds pooled (see `results.summarise`).

    Those that are trained on what they extract have another colour. ``systems``: name -> `Row`.
    """
    pooled = [r for r in results if r["fold"] == "all"]
    figure, axes = new_figure(7, 1.2 + 0.5 * len(pooled))
    for position, r in enumerate(pooled):
        system = systems[r["system"]].system
        colour = COLOURS[system.extracts and system.is_matched]
        value = 100 * r["ua"]
        axes.plot([value], [position], "o", color=colour)
        if r["ua_ci"]:
            axes.plot([100 * bound for bound in r["ua_ci"]], [position] * 2, color=colour)
        axes.annotate(
            f"{value:.1f}", (value, position), (0, 6), textcoords="offset points", ha="center"
        )
    chance = 100 / len(pooled[0]["confusion"])
    axes.axvline(chance, color="grey", linestyle=":")
    axes.annotate("chance ", (chance, len(pooled) - 0.6), color="grey", ha="right")
    names = [f"{r['train']} → {r['test']}\n{report.label(systems[r['system']])}" for r in pooled]
    axes.set_yticks(range(len(pooled)), names, fontsize=8)
    axes.set_ylim(len(pooled) - 0.4, -0.7)
    axes.set_xlim(0, 100)
    axes.set_xlabel("UA, %, folds pooled (95 % interval over speakers)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title)
    _save_both(figure, path)


def plot_levels(path, cells, all_systems, title=""):
    """Draw UA and its interval of every system over the levels of mixtures that have some.

    Args:
        cells: of `breakdown.break_down`.
    """
    rows = {}
    for cell in cells:
        if cell["by"] == ["snr_db"]:
            rows.setdefault(cell["cell"][0], {})[cell["system"]] = cell
    rows = [{"value": value, "systems": systems} for value, systems in rows.items()]
    plot_sweep(path, {"sweep": "SNR", "rows": rows}, all_systems, title, has_main=False)


def plot_sweep(path, sweep, all_systems, title="", has_main=True):
    """Draw UA and its interval of every system over the values (see `sweeps.summarise`).

    ``has_main``: the first row is that of the main mixtures, which are no value.
    """
    figure, axes = new_figure(2.5 + 0.9 * len(sweep["rows"]), 4)
    systems = [s for s in all_systems if any(s in row["systems"] for row in sweep["rows"])]
    for number, system in enumerate(systems):
        points = [
            (position + 0.06 * (number - len(systems) / 2), row["systems"][system])
            for position, row in enumerate(sweep["rows"])
            if system in row["systems"]
        ]
        colour = COLOURS[number % len(COLOURS)]
        positions, values = [x for x, _ in points], [100 * m["ua"] for _, m in points]
        axes.plot(positions, values, "o", color=colour, markersize=4, label=system)
        first = int(has_main and sweep["rows"][0]["systems"].get(system) is not None)
        axes.plot(positions[first:], values[first:], color=colour)
        for x, measures in points:
            if measures["ua_ci"]:
                axes.plot([x, x], [100 * bound for bound in measures["ua_ci"]], color=colour)
    axes.set_xticks(range(len(sweep["rows"])), [str(row["value"]) for row in sweep["rows"]])
    axes.set_xlabel(sweep["sweep"])
    axes.set_ylabel("UA, %, folds pooled (95 % interval over speakers)")
    axes.grid(alpha=0.3)
    axes.set_title(title)
    figure.legend(loc="outside right upper")
    _save_both(figure, path)


def plot_training(path, histories, title):
    """Draw the statistics of a training over the epochs, one panel each, one colour a fold.

    Args:
        histories: run (see `find_histories`) -> `read_epochs`; at least one of them has a curve.
            Further seeds of a fold are thin lines of its colour.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    found = {stat for history in histories.values() for stat, _ in history}
    statistics = sorted(found - _UNTOLD) or sorted(found)
    columns = min(3, len(statistics))
    rows = math.ceil(len(statistics) / columns)
    figure, _ = new_figure(4 * columns + 1, 2.6 * rows + 0.5, axes=False)
    folds = sorted({_fold_of(run) for run in histories}, key=fold_key)
    colours = {fold: COLOURS[number % len(COLOURS)] for number, fold in enumerate(folds)}
    styles = {"train": "--", "valid": "-"}
    for number, stat in enumerate(statistics, 1):
        axes = figure.add_subplot(rows, columns, number)
        for run, history in histories.items():
            fold = _fold_of(run)
            width = 1.5 if run == fold else 0.6
            for part, style in styles.items():
                epochs, values = history.get((stat, part), ((), ()))
                marker = "." if len(epochs) == 1 else None  # a line needs two points
                axes.plot(
                    epochs, values, style, color=colours[fold], linewidth=width, marker=marker
                )
        axes.set_title(stat)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    legend = [Line2D([], [], linestyle=s, color="black", label=p) for p, s in styles.items()]
    legend += [Line2D([], [], color=c, label=f"fold {fold}") for fold, c in colours.items() if fold]
    figure.legend(handles=legend, loc="outside right upper")
    figure.suptitle(title)
    _save_both(figure, path)


def find_histories(exp_dir):
    """Find ``epochs.tsv`` of all trainings: experiment -> {run -> path}.

    A run is a fold "1", a further seed of it "1_seed2", or "" for a training without folds.
    """
    exp_dir = Path(exp_dir)
    experiments = {}
    for path in sorted(exp_dir.glob("*/epochs.tsv")):
        experiments.setdefault(path.parent.name, {})[""] = path
    for path in sorted(exp_dir.glob("*/fold*/epochs.tsv")):
        run = path.parent.name.removeprefix("fold")
        experiments.setdefault(path.parent.parent.name, {})[run] = path
    return experiments


def read_epochs(path):
    """Read the curves of one training from its ``epochs.tsv``.

    Returns:
        (statistic, "train" or "valid") -> (epochs, values); empty fields and values that are
        not finite are left out, and so are statistics without any value.

    Raises:
        UserError: there is no column epoch, or a field is not a number.
    """
    curves = {}
    for number, row in enumerate(read_tsv(path, ("epoch",)), 2):
        for column, field in row.items():
            part, _, stat = column.partition("_")
            if part not in ("train", "valid") or not stat or not field:
                continue
            try:
                epoch, value = int(row["epoch"]), float(field)
            except ValueError:
                raise UserError(
                    f"{path}: line {number}: epoch '{row['epoch']}', {column} '{field}': not a "
                    "number; delete the file"
                ) from None
            if math.isfinite(value):
                epochs, values = curves.setdefault((stat, part), ([], []))
                epochs.append(epoch)
                values.append(value)
    return curves


def _fold_of(run):
    return run.partition("_seed")[0]


def new_figure(width, height, axes=True):
    """A figure of this size in inches, and its axes (or None)."""
    # without pyplot there is no global state and no display; savefig then uses Agg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot() if axes else None


def save(figure, path, **how):
    """Write a figure in the format of the path's suffix, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, **how)


def _save_both(figure, path):
    """Write a PNG for the report, and beside it a PDF for papers."""
    save(figure, path)
    save(figure, Path(path).with_suffix(".pdf"), metadata={"CreationDate": None})
