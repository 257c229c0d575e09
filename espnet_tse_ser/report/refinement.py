"""What TRNet's refinement does: its score by level, and embeddings before and after the bridge.

Chen & Zhang, arXiv 2404.12979: Figures 2 and 3.
"""

import numpy as np

from espnet_tse_ser.metrics.comparison import mean_over
from espnet_tse_ser.mixtures.table import level_key
from espnet_tse_ser.report.markdown import head, number, over_speakers, table
from espnet_tse_ser.report.plots import COLOURS, new_figure, save
from espnet_tse_ser.report.results_report import level_name

LIMITS = (0, 1)  # of a score


def scores_by_level(rows):
    """Mean scores, 1 for what seems clean.

    Args:
        rows: list of dicts with level, speaker and score.

    Returns:
        list of dicts, the lowest level first: level, n, speakers, score and score_ci (95 % over
        speakers, None for a single one). Rounded to 6 decimals.
    """
    found = []
    for level in sorted({row["level"] for row in rows}, key=level_key):
        chosen = [row for row in rows if row["level"] == level]
        speakers = [row["speaker"] for row in chosen]
        mean, bounds = mean_over([float(row["score"]) for row in chosen], speakers, LIMITS)
        found.append(
            {
                "level": level,
                "n": len(chosen),
                "speakers": len(set(speakers)),
                "score": mean,
                "score_ci": bounds,
            }
        )
    return found


def render(levels, facts):
    """The table of `scores_by_level`, below what there is to say about it (name -> value)."""
    rows = [
        [level_name(r["level"]), r["n"], r["speakers"], number(r["score"], 3, r["score_ci"])]
        for r in levels
    ]
    return (
        f"# Refinement\n\n{head(facts)}\n\n"
        "The estimated score S, 1 for a mixture that seems clean, "
        f"{over_speakers(levels[0]['speakers'])}.\n\n"
        + table(["level", "n", "speakers", "S"], rows)
        + "\n"
    )


def plot_scores(path, levels):
    """Draw the scores of `scores_by_level`."""
    figure, axes = new_figure(6, 3.5)
    for position, r in enumerate(levels):
        axes.plot([position], [r["score"]], "o", color=COLOURS[0])
        if r["score_ci"]:
            axes.plot([position] * 2, r["score_ci"], color=COLOURS[0])
    axes.plot(range(len(levels)), [r["score"] for r in levels], color=COLOURS[0], linewidth=0.8)
    axes.set_xticks(range(len(levels)), [level_name(r["level"]) for r in levels])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("level of the target against the noise")
    axes.set_ylabel("score S (95 % interval over speakers)")
    axes.grid(alpha=0.3)
    save(figure, path)


def plot_embeddings(path, embeddings, labels, seed=0):
    """Draw embeddings in two dimensions, by t-SNE, all of them in one map.

    Args:
        embeddings: title of a panel -> ``(N, size)``. labels: of the N, in each panel the same.
    """
    from sklearn.manifold import TSNE  # takes seconds

    stacked = np.concatenate(list(embeddings.values()))
    stacked = (stacked - stacked.mean(0)) / np.maximum(stacked.std(0), 1e-6)
    perplexity = min(30.0, (len(stacked) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(stacked)
    panels = np.split(places, len(embeddings))
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    figure, _ = new_figure(4 * columns + 1, 3.4 * rows, axes=False)
    names = sorted(set(labels))
    for at, (title, points) in enumerate(zip(embeddings, panels, strict=True), 1):
        axes = figure.add_subplot(rows, columns, at)
        for place, name in enumerate(names):
            mine = points[[label == name for label in labels]]
            how = {"color": COLOURS[place % len(COLOURS)], "label": name if at == 1 else None}
            axes.plot(*mine.T, ".+x*"[place // len(COLOURS) % 4], markersize=3, **how)
        axes.set(
            title=title, xticks=[], yticks=[], xlim=_ends(places[:, 0]), ylim=_ends(places[:, 1])
        )
    figure.legend(loc="outside right upper")
    save(figure, path)


def _ends(values):
    margin = 0.03 * np.ptp(values)
    return values.min() - margin, values.max() + margin
