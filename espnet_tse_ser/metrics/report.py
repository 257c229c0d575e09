"""RESULTS.md: the figures of results.json in the form of the paper's tables."""

import statistics

from espnet_tse_ser.metrics.tables import SYSTEMS

PAPER = "arXiv 2409.19585"
PAPER_ROWS = {  # WA, UA in % on IEMOCAP with LibriSpeech interferers, the paper's Tables II to IV
    "clean_clean": ("70.20", "71.64"),
    "clean_noisy": ("47.11", "46.02"),
    "noisy_noisy": ("53.71", "53.94"),
    "clean_denoised": ("51.12", "49.50"),
    "base": ("62.20", "63.42"),
    "ft": ("67.02", "68.27"),
}

_EXTRACTORS = {"denoised": "pretrained (base)", "joint": "fine-tuned (ft)"}  # by test condition


def render(labels, results, comparisons, header, plots=()):
    """The text of RESULTS.md.

    Args:
        labels: the classes.
        results: from `results.summarise`.
        comparisons: from `results.compare`.
        header: what to say about the run, name -> value (date, versions, commit).
        plots: paths of images to show, relative to RESULTS.md.
    """
    pooled = {r["system"]: r for r in results if r["fold"] == "all"}
    sections = [
        "# Results\n\nWritten by `python -m espnet_tse_ser.bin.results`; the same figures are in "
        "results.json, the utterances behind them in the `score_utt.tsv` of each system.",
        _table(["", ""], [[name, value or "n/a"] for name, value in header.items()]),
        _emotion(results, pooled),
        _comparison(comparisons),
        _extraction(pooled),
        _gender_states(pooled),
        _folds(results),
        _confusions(labels, pooled),
        _paper(),
    ]
    if plots:
        lines = [f"![{path}]({path})" for path in plots]
        sections.append("## Plots\n\n" + "\n\n".join(lines))
    return "\n\n".join(section for section in sections if section) + "\n"


def _emotion(results, pooled):
    folds = [r["fold"] for r in results if r["system"] in list(pooled)[:1] and r["fold"] != "all"]
    rows = [
        [
            SYSTEMS[name].model,
            r["train"],
            r["test"],
            r["n"],
            *(_percent(r[m], r[f"{m}_ci"]) for m in ("wa", "ua", "macro_f1")),
        ]
        for name, r in pooled.items()
    ]
    seeds = list(next(iter(pooled.values())).get("ua_by_seed", ()))
    runs = f"Folds {', '.join(folds)}" + (f" and seeds {', '.join(seeds)}" if seeds else "")
    text = (
        f"## Emotion recognition\n\n{runs} pooled; % with 95 % intervals "
        "(bootstrap over speakers, Student's t).\n\n"
        + _table(["system", "train", "test", "n", "WA", "UA", "macro-F1"], rows)
    )
    if seeds:
        text += "\n\nStandard deviation of UA over the seeds, percentage points: "
        text += ", ".join(f"{name} {_deviation(r['ua_by_seed'])}" for name, r in pooled.items())
        text += "."
    missing = [name for name in SYSTEMS if name not in pooled]
    if missing:
        text += f"\n\nNot scored yet: {', '.join(missing)}."
    return text


def _deviation(ua_by_seed):
    """Sample standard deviation, in percentage points."""
    return f"{100 * statistics.stdev(ua_by_seed.values()):.2f}"


def _comparison(comparisons):
    if not comparisons:
        return ""
    rows = [
        [
            c["system"],
            c["reference"],
            _percent(c["difference"], c["difference_ci"]),
            _percent(c.get("recovered"), c.get("recovered_ci")),
        ]
        for c in comparisons
    ]
    return (
        "## Differences in UA\n\nPercentage points on the same speakers; the share of the gap is "
        "(system - noisy_noisy) / (clean_clean - noisy_noisy).\n\n"
        + _table(["system", "against", "UA difference", "share of the gap recovered, %"], rows)
    )


def _extraction(pooled):
    rows = []
    # clean_denoised and base are tested on the same extracted speech
    for test, result in {r["test"]: r for r in pooled.values() if r["si_sdr"] is not None}.items():
        for state, r in [("all", result), *result["by_gender_state"].items()]:
            rows.append(
                [
                    _EXTRACTORS[test],
                    state,
                    r["n"],
                    *(_number(r[c]) for c in ("si_sdr_mix", "si_sdr")),
                    _number(r["si_sdri"], interval=r["si_sdri_ci"]),
                    *(_number(r[c], 3) for c in ("stoi_mix", "stoi")),
                    _percent(r["wrong_speaker_rate"]),
                ]
            )
    if not rows:
        return ""
    columns = ["TSE", "gender state", "n", "SI-SDR in", "SI-SDR out", "SI-SDRi"]
    columns += ["STOI in", "STOI out", "wrong speaker, %"]
    return "## Extraction\n\nMeans over utterances; SI-SDR in dB.\n\n" + _table(columns, rows)


def _gender_states(pooled):
    rows = [
        [
            SYSTEMS[name].model,
            r["train"],
            r["test"],
            state,
            part["n"],
            *(_percent(part[m], part[f"{m}_ci"]) for m in ("wa", "ua")),
        ]
        for name, r in pooled.items()
        for state, part in r["by_gender_state"].items()
    ]
    columns = ["system", "train", "test", "gender state", "n", "WA", "UA"]
    return "## Emotion recognition by gender state\n\n" + _table(columns, rows)


def _folds(results):
    rows = [
        [r["system"], r["fold"], r["n"], *(_percent(r[m]) for m in ("wa", "ua", "macro_f1"))]
        + [_number(r["si_sdr"]), _number(r["si_sdri"])]
        for r in results
        if r["fold"] != "all"
    ]
    columns = ["system", "fold", "n", "WA", "UA", "macro-F1", "SI-SDR", "SI-SDRi"]
    return "## Folds\n\n" + _table(columns, rows)


def _confusions(labels, pooled):
    tables = []
    for name, r in pooled.items():
        rows = [[f"**{label}**", *row] for label, row in zip(labels, r["confusion"], strict=True)]
        tables.append(_table([name, *labels], rows))
    seeds = max(r["seeds"] for r in pooled.values())
    counted = "Utterances" if seeds == 1 else f"Utterances, each recognised with {seeds} seeds"
    heading = f"## Confusions\n\n{counted}; row: reference, column: hypothesis."
    return "\n\n".join([heading, *tables])


def _paper():
    rows = [
        [SYSTEMS[name].model, SYSTEMS[name].train, SYSTEMS[name].test, *values]
        for name, values in PAPER_ROWS.items()
    ]
    return (
        f"## The paper's figures, for comparison\n\nNot measured here: {PAPER}, Tables II to IV, "
        "IEMOCAP with LibriSpeech interferers, %. SI-SDRi there: base 7.68 dB, ft 12.90 dB.\n\n"
        + _table(["system", "train", "test", "WA", "UA"], rows)
    )


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(value, interval=None):
    if value is None:
        return "n/a"
    text = f"{100 * value:.2f}"
    if interval:
        text += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return text


def _number(value, digits=2, interval=None):
    if value is None:
        return "n/a"
    text = f"{value:.{digits}f}"
    if interval:
        text += f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return text
