"""What a front-end makes of mixtures: measures of its signals, by level or by gender state."""

from espnet_tse_ser.metrics.comparison import mean_over
from espnet_tse_ser.mixtures.table import NONE, level_key
from espnet_tse_ser.report.markdown import number, over_speakers, table
from espnet_tse_ser.report.results_report import level_name

# Column, title, digits.
MEASURES = (
    ("si_sdr_mix", "SI-SDR in, dB", 2),
    ("si_sdr", "SI-SDR out, dB", 2),
    ("ssnr_mix", "SSNR in, dB", 2),
    ("ssnr", "SSNR out, dB", 2),
    ("stoi_mix", "STOI in", 3),
    ("stoi", "STOI out", 3),
    ("pesq_mix", "PESQ in", 2),
    ("pesq", "PESQ out", 2),
    ("tsos", "TSOS", 3),
    ("pause_level", "left in pauses, dB", 1),
)


def summarise(rows):
    """Mean measures, of all rows and of each part of them.

    Args:
        rows: list of dicts of a table of stage 8, with the speaker of the target.

    Returns:
        list of dicts: part ("all", a level or a gender state), n, speakers, and for each column of
        `MEASURES` its mean, ``_ci`` (95 % over speakers) and ``_n`` (the number of rows that have
        one); mean and interval None where there is none.
    """
    column = "level" if any(row["level"] for row in rows) else "gender_state"
    parts = {row[column] for row in rows} - {NONE}
    parts = sorted(parts, key=level_key if column == "level" else None)
    found = []
    for part in ["all", *parts]:
        chosen = [row for row in rows if part in ("all", row[column])]
        name = level_name(part) if column == "level" and part != "all" else part
        summary = {"part": name, "n": len(chosen), "speakers": len({r["speaker"] for r in chosen})}
        for measure, _, _ in MEASURES:
            summary |= _mean(chosen, measure)
        found.append(summary)
    return found


def render(summaries, front_end):
    """The tables of `summarise`, of what is named ``front_end``."""
    shown = [m for m in MEASURES if any(s[f"{m[0]}_n"] for s in summaries)]
    columns = [title for _, title, _ in shown]
    rows = [
        [s["part"], s["n"], *(_cell(s, measure, digits) for measure, _, digits in shown)]
        for s in summaries
    ]
    return (
        f"# Signals of {front_end}\n\nMeans over utterances, "
        f"{over_speakers(summaries[0]['speakers'])}. Parentheses say of how many of the n, where "
        "it is not all: a clean mixture has no SI-SDR and pauses without noise, STOI and PESQ need "
        "speech enough. TSOS is the share of frames that lack much of the target.\n\n"
        + table(["mixtures", "n", *columns], rows)
        + "\n"
    )


def _mean(rows, measure):
    known = [row for row in rows if row[measure]]
    mean, bounds = None, None
    if known:
        speakers = [row["speaker"] for row in known]
        mean, bounds = mean_over([float(row[measure]) for row in known], speakers)
    return {measure: mean, f"{measure}_ci": bounds, f"{measure}_n": len(known)}


def _cell(summary, measure, digits):
    known = summary[f"{measure}_n"]
    text = number(summary[measure], digits, summary[f"{measure}_ci"])
    return text if known in (0, summary["n"]) else f"{text} ({known})"
