"""Sweeps: tables of trained systems on variations of the test mixtures."""

import json

import numpy as np
import pytest
from declared import ROWS
from metrics_rows import LABELS, make_scores

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.metrics.comparison import compare_rows
from espnet_tse_ser.metrics.tables import MADE_WITH, score_columns
from espnet_tse_ser.report import sweeps
from espnet_tse_ser.report.results import measure_rows
from espnet_tse_ser.report.stamp import Stamp
from espnet_tse_ser.report.sweeps import Point
from espnet_tse_ser.report.sweeps_report import render
from espnet_tse_ser.systems.system import Claim, System, name_rows

NOISY = ("noisy_noisy", "base", "ft")


@pytest.fixture(scope="module")
def main():
    return make_scores(speakers=6)


def variation(seed, systems=NOISY, speakers=6):
    return make_scores(systems, speakers, seed=seed) | {}


def on_main_seed(scores):
    return {name: [{**row, "seed": "0"} for row in rows] for name, rows in scores.items()}


def test_rows_and_references(main):
    harder = on_main_seed(variation("5"))
    tests = [Point("snr_5", "snr", 5, "easier", main), Point("snr_-5", "snr", -5, "harder", harder)]
    (sweep,) = sweeps.summarise(tests, main, LABELS, ROWS)
    assert [(row["name"], row["value"]) for row in sweep["rows"]] == [
        ("main", "main"),
        ("snr_5", 5),
        ("snr_-5", -5),
    ]
    assert json.loads(json.dumps(sweep, allow_nan=False)) == sweep
    first, copy, row = sweep["rows"]
    assert first["against_main"] == {} and copy["systems"] == first["systems"]
    unchanged = copy["against_main"]["ft"]["measures"]["ua"]
    assert unchanged["difference"] == 0 and unchanged["p"] == 1
    assert row["systems"]["ft"] == measure_rows(harder["ft"], LABELS)
    assert row["against_main"] == {"ft": compare_rows(harder["ft"], main["ft"], LABELS)}
    expected = compare_rows(harder["ft"], harder["noisy_noisy"], LABELS)
    left_out = {"si_sdri": "snr_-5/noisy_noisy"}
    pair = {"system": "ft", "reference": "noisy_noisy"}
    assert row["claims"] == [{**pair, **expected, "left_out": left_out}]
    assert (row["folds"], row["seeds"]) == (["1", "2", "3"], ["0"])
    upper = measure_rows(main["clean_clean"], LABELS)["ua"]
    lower = row["systems"]["noisy_noisy"]["ua"]
    for system in ("base", "ft"):
        expected = (row["systems"][system]["ua"] - lower) / (upper - lower)
        assert row["recovered"][system]["share"] == pytest.approx(expected, abs=1e-5)
    # clean speech is not asked for, the other conditions are
    assert sweep["missing"] == {"snr_-5": ["clean_noisy", "clean_denoised"]}


def test_upper_end_is_of_the_same_targets_and_seeds(main):
    more = {name: rows + [{**r, "seed": "9"} for r in rows] for name, rows in main.items()}
    ids = {row["id"] for row in main["ft"] if row["speaker"] != "s00"}
    fewer = {name: [r for r in main[name] if r["id"] in ids] for name in NOISY}
    (sweep,) = sweeps.summarise([Point("t", "x", 1, "y", fewer)], more, LABELS, ROWS)
    row = sweep["rows"][1]
    top = [r for r in main["clean_clean"] if r["id"] in ids]
    upper, lower, own = (
        measure_rows(rows, LABELS)["ua"] for rows in (top, fewer["noisy_noisy"], fewer["ft"])
    )
    expected = (own - lower) / (upper - lower)
    assert row["recovered"]["ft"]["share"] == pytest.approx(expected, abs=1e-5)
    compared = row["against_main"]["ft"]
    assert row["n"] == compared["n"] == len(ids) and compared["seeds"] == [1, 1]


def test_claims_of_another_system(main):
    """Of one that is declared beside the paper's; each tag of a system by itself."""
    claims = (Claim("noisy_noisy", in_sweeps=True), Claim("base"))
    light = System("light", "SC light", 3.5, "noisy", "noisy", claims=claims)
    names = [name for name in ROWS if name != "ft"]
    rows = name_rows(
        [*((ROWS[n].system, "default") for n in names), (light, "default"), (light, "b")]
        + [(ROWS["ft"].system, tag) for tag in ("default", "default+default+w1")]
    )
    copies = {"light (default)": "base", "light (b)": "base", "ft (default)": "ft"}
    copies["ft (default+default+w1)"] = "base"
    scores = {name: main[copies.get(name, name)] for name in rows}
    harder = {n: on_main_seed(variation("5", (copies.get(n, n),)))[copies.get(n, n)] for n in rows}
    (sweep,) = sweeps.summarise([Point("t", "snr", 1, "y", harder)], scores, LABELS, rows)
    row = sweep["rows"][1]
    compared = {(c["system"], c["reference"]): c["measures"] for c in row["claims"]}
    assert list(compared) == [
        ("light (default)", "noisy_noisy"),  # light (b) is of another recogniser
        ("ft (default)", "noisy_noisy"),
        ("ft (default+default+w1)", "noisy_noisy"),
    ]
    expected = compare_rows(harder["base"], harder["noisy_noisy"], LABELS)["measures"]
    assert compared["light (default)", "noisy_noisy"] == expected
    assert compared["ft (default+default+w1)", "noisy_noisy"] == expected
    claiming = ["light (b)", "light (default)", "ft (default)", "ft (default+default+w1)"]
    assert list(row["against_main"]) == claiming
    text = render([sweep], [], {}, Stamp(), rows)
    (line,) = [line for line in text.splitlines() if line.startswith("|  | n |")]
    for column in ("UA light (b)", "ft (default) - noisy_noisy", "light (b) - light (b) of main"):
        assert f"| {column} |" in line
    assert "light (b) - noisy_noisy" not in line and "light (default) - base" not in line


def test_text(main):
    tests = [
        Point("a", "snr", -5, "much noise", on_main_seed(variation("5"))),
        Point("b", "snr", 0, "some noise"),
        Point("c", "talkers", 3, "three talkers", on_main_seed(variation("6", ("ft",)))),
    ]
    summary = sweeps.summarise(tests, main, LABELS, ROWS)
    text = render(
        summary,
        ["old"],
        {"date": "d"},
        Stamp("best_test_epoch"),
        ROWS,
        {"snr": "plots/sweep_snr.png"},
    )
    assert text.count("\n**Scheme best_test_epoch, optimistic: epoch chosen on the test") == 2
    assert "\n* main: the condition that the systems were trained for\n* -5: much noise\n" in text
    assert "Not run yet: a (clean_noisy clean_denoised), b (clean_noisy noisy_noisy " in text
    assert "Without a configuration, and not shown: old." in text
    assert "![plots/sweep_snr.png](plots/sweep_snr.png)" in text
    ua = summary[0]["rows"][1]["systems"]["ft"]["ua"]
    assert f"{100 * ua:.2f} [" in text and "nan" not in text and "None" not in text
    for part in text.split("\n\n"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def write_test(directory, name, scores, conf):
    (directory / "conf").mkdir(exist_ok=True)
    (directory / f"conf/{name}.yaml").write_text(conf)
    for system, rows in scores.items():
        described = dict(system=system, tag="default", train="x", test="y", epoch="1")
        described |= dict.fromkeys(MADE_WITH, "n/a")
        described |= {f"p_{label}": 0.25 for label in LABELS}
        rows = [{**row, **described} for row in rows]
        rows = [{k: "" if v != v else v for k, v in row.items()} for row in rows]
        write_tsv(
            directory / f"tests/{name}/{system}/default/score_utt.tsv", rows, score_columns(LABELS)
        )


def read(directory, own=None):
    return sweeps.read_points(directory / "tests", directory / "conf", LABELS, ROWS, own=own)


def test_reading(tmp_path):
    scores = variation("0", ("ft",), 2)
    for name, value in (("snr_10", "10 dB"), ("snr_-5", -5), ("snr_odd", "odd"), ("snr_2", 2.5)):
        conf = f"sweep: snr\nvalue: {value}\nabout: x\noverlap: 0.3\n"
        write_test(tmp_path, name, scores if value == "10 dB" else {}, conf)
    write_test(tmp_path, "few", {}, "sweep: enroll\nvalue: few\nabout: y\n")
    (tmp_path / "tests/old/ft").mkdir(parents=True)
    tests, unknown = read(tmp_path)
    assert [(t.name, list(t.scores)) for t in tests] == [
        ("few", []),
        ("snr_-5", []),
        ("snr_2", []),
        ("snr_10", ["ft"]),
        ("snr_odd", []),
    ]
    assert unknown == ["old"]
    assert np.isclose(tests[3].scores["ft"][0]["si_sdri"], scores["ft"][0]["si_sdri"])


@pytest.mark.parametrize(
    "conf, message",
    [
        ("sweep: snr\nvalue: 1\n", "b.yaml: has no 'about'; give a text"),
        ("sweep: snr\nvalue: 0\nabout: x\n", "b.yaml: sweep 'snr' has the value '0' twice.*a.yaml"),
    ],
)
def test_broken_configurations(tmp_path, conf, message):
    with pytest.raises(UserError, match="no <name>.yaml in it"):
        read(tmp_path)
    write_test(tmp_path, "a", {}, "sweep: snr\nvalue: 0\nabout: x\n")
    write_test(tmp_path, "b", {}, conf)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"value": ".nan"}, "a.yaml: value: expected a text, or a number, got nan"),
        ({"value": "[1, 2]"}, r"a.yaml: value: expected a text, or a number, got \[1, 2\]"),
        ({"value": "yes"}, "a.yaml: value: expected a text, or a number, got True"),
        ({"sweep": "[a]"}, r"a.yaml: sweep: expected a text, got \['a'\]"),
        ({"sweep": "5"}, "a.yaml: sweep: expected a text, got 5"),
        ({"about": "{a: b}"}, "a.yaml: about: expected a text, got {'a': 'b'}"),
        ({"about": "''"}, "a.yaml: about: expected a text, got ''"),
    ],
)
def test_what_fits_no_table(tmp_path, changes, message):
    conf = {"sweep": "snr", "value": "0", "about": "x"} | changes
    write_test(tmp_path, "a", {}, "".join(f"{k}: {v}\n" for k, v in conf.items()))
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_two_sweeps_do_not_share_a_plot(tmp_path):
    for name, sweep in (("a", "SNR, dB"), ("b", "SNR (dB)")):
        write_test(tmp_path, name, {}, f"sweep: {sweep}\nvalue: 0\nabout: x\n")
    message = r"'SNR, dB' and 'SNR \(dB\)' would both be sweep_SNR_dB.png; rename one"
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_test_is_of_one_epoch(tmp_path):
    scores = variation("0", ("ft",), 2)
    write_test(tmp_path, "a", scores, "sweep: snr\nvalue: 0\nabout: x\n")
    path = tmp_path / "tests/a/ft/default/score_utt.tsv"
    rows = [{**row, "hypothesis_wa": row["hypothesis"]} for row in read_tsv(path)]
    write_tsv(path, rows, rows[0])
    with pytest.raises(
        UserError, match="ft/default/score_utt.tsv: has the column hypothesis_wa, which no"
    ):
        read(tmp_path)


def test_what_lies_in_place_of_a_table(tmp_path):
    """Only where there is nothing was a system not run."""
    write_test(tmp_path, "a", variation("0", ("base", "ft"), 2), "sweep: s\nvalue: 0\nabout: x\n")
    path = tmp_path / "tests/a/ft/default/score_utt.tsv"
    path.unlink()
    assert list(read(tmp_path)[0][0].scores) == ["base"]
    for make in (path.mkdir, lambda: path.symlink_to("nothing"), lambda: path.symlink_to(path)):
        make()
        with pytest.raises(UserError, match="ft/default/score_utt.tsv"):
            read(tmp_path)
        path.rmdir() if not path.is_symlink() else path.unlink()


def test_other_folds_and_seeds_are_said(main):
    more = {name: rows + [{**r, "seed": "9"} for r in rows] for name, rows in main.items()}
    fewer = {name: [r for r in main[name] if r["fold"] == "2"] for name in NOISY}
    tests = [Point("t", "x", 1, "y", fewer), Point("u", "x", 2, "y", {n: more[n] for n in NOISY})]
    summary = sweeps.summarise(tests, more, LABELS, ROWS)
    text = render(summary, [], {}, Stamp(folds=("1", "2", "3"), seeds=("0", "9")), ROWS)
    assert "Of other folds or seeds: 1 (folds 2, seeds 0).\n" in text
    row = summary[0]["rows"][1]
    assert row["folds"] == ["2"] and row["recovered"]["ft"]["n"] == row["n"] == 48


def test_a_share_of_fewer_targets_says_so(main):
    """The upper end may lack targets that the test has."""
    few = {**main, "clean_clean": [r for r in main["clean_clean"] if r["fold"] != "1"]}
    test = Point("t", "x", 1, "y", {name: main[name] for name in NOISY})
    (sweep,) = sweeps.summarise([test], few, LABELS, ROWS)
    assert sweep["rows"][1]["n"] == 144 and sweep["rows"][1]["recovered"]["ft"]["n"] == 96
    assert " (96 in both) |" in render([sweep], [], {}, Stamp(), ROWS)


def test_a_row_of_former_mixtures_is_left_out(tmp_path, caplog):
    scores = variation("0", ("base", "ft"), 2)
    scores["ft"] = [{**row, "snr_db": -9.0} for row in scores["ft"]]
    write_test(tmp_path, "a", scores, "sweep: snr\nvalue: 0\nabout: x\n")
    with pytest.raises(UserError, match="snr_db is .* in base, but -9.0 in ft"):
        read(tmp_path)
    for own, other in (("base", "ft"), ("ft", "base")):
        tests, _ = read(tmp_path, own=[f"{own}/default"])
        assert list(tests[0].scores) == [own]
        assert f"{other} is not shown: " in caplog.text


def test_systems_of_a_test_share_their_utterances(tmp_path):
    scores = variation("0", ("base", "ft"), 2)
    scores["ft"] = scores["ft"][1:]
    write_test(tmp_path, "a", scores, "sweep: snr\nvalue: 0\nabout: x\n")
    with pytest.raises(UserError, match="tests/a: ft: lacks 1 utterance.* of the 48 of base"):
        read(tmp_path)
