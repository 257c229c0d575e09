"""The page of an experiment: what it shows of what is there, and how it works in a browser."""

import json
import math
import shutil

import numpy as np
import pytest
from browser import browser, needs_chromium
from declared import SYSTEMS_DIR
from score_tables import LABELS, write_scores

from espnet_tse_ser.audio.kaldi_dir import write_table
from espnet_tse_ser.audio.reading import write_audio
from espnet_tse_ser.bin import report, results
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.report.html import as_html

EVIL = 's0-<b>"x"&\'(%41)#?'  # an id that is markup, and no plain part of an address
NAMES = ("mix", "spk1", "enroll_spk1", "denoised")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """exp and dump of two systems, four speakers and 40 utterances with their audio."""
    exp = tmp_path_factory.mktemp("recipe") / "exp"
    write_scores(exp)
    rng = np.random.default_rng(1)
    for name in ("noisy_noisy", "base"):
        path = exp / f"scores/{name}/default/score_utt.tsv"
        rows = read_tsv(path)
        for number, row in enumerate(rows):
            p = rng.uniform(0.5, 1)
            row |= {f"p_{c}": f"{p if c == row['hypothesis'] else 1 - p:.4f}" for c in LABELS}
            row["id"] = row["id"].replace("s0-00", EVIL)
            if name == "base":
                gain = number % 7 - 3
                row |= {"si_sdri": f"{gain}", "si_sdr": f"{gain + float(row['si_sdr_mix'])}"}
                row["wrong_speaker"] = str(int(number % 8 == 0))
        write_tsv(path, rows, rows[0])
    results.main([f"--{n}={exp}" for n in ("exp_dir", "output_dir")] + _more(exp))
    (exp / "ser_x/fold1").mkdir(parents=True)
    (exp / "ser_x/fold1/config.yaml").write_text("optim: adam  # <b>\n")
    (exp / "ser_x/fold1/.done").write_text("ser_train\n--seed 0\n--labels ang sad\n1 2 x.yaml\n")
    audio = exp.parent / "audio"
    for number, name in enumerate(NAMES):
        seconds = 1.5 if name == "enroll_spk1" else 2
        time = np.arange(int(16000 * seconds)) / 16000
        suffix = "wav" if name == "enroll_spk1" else "flac"  # one that the corpus has
        tone = 0.3 * np.sin(2 * np.pi * 1000 * (number + 1) * time)
        write_audio(audio / f"{name}.{suffix}", tone.astype(np.float32), 16000)
    ids = [row["id"] for row in rows]
    mix, denoised = exp.parent / "dump/mix", exp.parent / "dump/denoised_default"
    write_table(mix / "wav.scp", dict.fromkeys(ids, audio / "mix.flac"))
    write_table(mix / "spk1.scp", dict.fromkeys(ids, audio / "spk1.flac"))
    write_table(mix / "enroll_spk1.scp", dict.fromkeys(ids, audio / "enroll_spk1.wav"))
    write_table(denoised / "wav.scp", dict.fromkeys(ids, audio / "denoised.flac"))
    return exp


def _more(exp):
    return [f"--scores_dir={exp}/scores", f"--systems_dir={SYSTEMS_DIR}"]


@pytest.fixture(scope="module")
def page(experiment):
    report.main([str(experiment)])
    return experiment / "report/index.html"


@pytest.fixture(scope="module")
def window(page):
    with browser() as window:
        yield window


@pytest.fixture
def opened(window, page):
    window.open(page)
    return window


def scores_of(experiment, name="base"):
    return read_tsv(experiment / f"scores/{name}/default/score_utt.tsv")


def shown(window):
    """Ids of the rows that are seen."""
    return window.run("return [...document.querySelectorAll('#rows th')].map(e => e.textContent)")


def counted(window):
    return window.run("return document.getElementById('count').textContent")


def choose(window, name, text):
    """Choose the option with this text, as a reader does."""
    window.run(
        "const s = document.querySelector(`select[name='${arguments[0]}']`);"
        "s.value = [...s.options].find(o => o.text === arguments[1]).value;"
        "s.dispatchEvent(new Event('change'));",
        name,
        text,
    )


def test_the_page_stands_alone_and_says_how_it_was_made(page, experiment):
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and EVIL not in text
    assert "<code>tse-ser report " in text and "<td>n/a</td>" in text
    assert "ser_train\n--seed 0\n--labels ang sad</pre>" in text and "adam  # &lt;b&gt;" in text
    for name in ("exp/ser_x/fold1", "exp/ser_x/fold1/config.yaml"):
        assert f"<summary>{name}</summary>" in text
    assert text.count(str(experiment)) == 1  # in the command
    table = (experiment / "RESULTS.md").read_text().partition("## Emotion recognition")[2]
    cell = next(line for line in table.splitlines() if "TSE-SER-base" in line).split(" | ")[5]
    assert f"<td>{cell}</td>" in text and "[" in cell
    for name in ("ladder_ua.png", "ladder_ua.pdf", "confusion_base.png"):
        assert (page.parent / "plots" / name).stat().st_size > 1000
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert [s["directory"] for s in data["signals"]] == [
        *("mixture", "denoised_default", "clean", "enrollment")
    ]
    assert len(data["utterances"]) == 40
    for signal in data["signals"]:
        for utterance in data["utterances"]:
            path = page.parent / "audio" / signal["directory"] / f"{utterance[0]}.flac"
            assert path.read_bytes().startswith(b"fLaC")


def test_a_page_is_not_replaced_unasked_and_never_half_written(page, experiment, tmp_path):
    before = page.stat().st_mtime_ns
    with pytest.raises(UserError, match="index.html: is there already; give --redo, or another"):
        report.main([str(experiment)])
    assert page.stat().st_mtime_ns == before
    recipe = tmp_path / "recipe"
    shutil.copytree(experiment, recipe / "exp", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(experiment.parent / "dump", recipe / "dump")
    options = [str(recipe / "exp"), f"--output_dir={tmp_path}/out"]
    scp = recipe / "dump/mix/spk1.scp"
    scp.write_text(scp.read_text().replace("spk1.flac", "gone.flac"))
    out = tmp_path / "out/index.html"
    out.parent.mkdir()
    out.write_text("of before")
    with pytest.raises(UserError, match="gone.flac"):
        report.main([*options, "--redo"])
    assert not out.exists()
    scp.write_text(scp.read_text().partition("\n")[0] + "\n")
    with pytest.raises(UserError, match="the audio of clean speech"):
        report.main(options)
    with pytest.raises(UserError, match="--output_dir .*exp: is an input as well"):
        report.main([str(experiment), f"--output_dir={experiment}"])


def test_what_is_no_experiment(experiment, tmp_path):
    with pytest.raises(UserError, match="no results.json in it; give the directory exp of a"):
        report.main([str(tmp_path)])
    (tmp_path / "results.json").write_text('{"labels": ["ang"]}')
    with pytest.raises(UserError, match="results.json: is of an older version; run stage 14"):
        report.main([str(tmp_path)])
    exp = tmp_path / "exp"
    shutil.copytree(experiment, exp, ignore=shutil.ignore_patterns("report"))
    with pytest.raises(UserError, match="dump/denoised_default/wav.scp: no such file"):
        report.main([str(exp)])
    write_scores(exp, commit="another")
    message = "results.json: is not of .*/noisy_noisy/default/score_utt.tsv; run stage 14 again"
    with pytest.raises(UserError, match=message):
        report.main([str(exp), f"--dump_dir={experiment.parent}/dump"])


def test_markdown_of_reports():
    text = "# A `b`\n\n## C\n\n**d** \\* <e>\n\n* f\n* g\n\n![p/h.png](p/h.png)\n\n## I\n\nj"
    assert as_html(text, "k l") == (
        "<h3>A <code>b</code></h3>\n<details open>\n<summary><h4>C</h4></summary>\n"
        "<p><strong>d</strong> * &lt;e&gt;</p>\n<ul><li>f</li><li>g</li></ul>\n"
        '<p><img src="k%20l/p/h.png" alt="plot: h" loading="lazy"></p>\n'
        "</details><details>\n<summary><h4>I</h4></summary>\n<p>j</p></details>"
    )


@needs_chromium
def test_worst_is_first(opened, experiment):
    assert counted(opened) == "40 of 40 utterances, worst first; page 1 of 2"
    shares = {}
    for name in ("noisy_noisy", "base"):
        for row in scores_of(experiment, name):
            share = round(1000 * float(row[f"p_{row['reference']}"]))
            shares[row["id"]] = shares.get(row["id"], 0) + share
    ids = shown(opened)
    assert len(ids) == 25 == len(set(ids))
    values = [shares[utt] for utt in ids]
    assert values == sorted(shares.values())[:25]
    opened.run("document.getElementById('next').click()")
    assert len(shown(opened)) == 15 and not {*ids} & {*shown(opened)}
    assert counted(opened).endswith("page 2 of 2")
    choose(opened, "system", "base")
    share = {r["id"]: round(1000 * float(r[f"p_{r['reference']}"])) for r in scores_of(experiment)}
    assert [share[utt] for utt in shown(opened)] == sorted(share.values())[:25]


@needs_chromium
def test_filters(opened, experiment):
    rows = scores_of(experiment)
    choose(opened, "system", "base")
    for chosen, fits in (
        ({"fold": "2"}, lambda r: r["fold"] == "2"),
        ({"gender state": "same"}, lambda r: r["gender_state"] == "same"),
        ({"wrong speaker": "yes"}, lambda r: r["wrong_speaker"] == "1"),
        ({"SNR": "-5 to 0 dB"}, lambda r: -5 <= float(r["snr_db"]) < 0),
        (
            {"reference": "ang", "hypothesis": "sad"},
            lambda r: (r["reference"], r["hypothesis"]) == ("ang", "sad"),
        ),
        (
            {"result": "right", "speaker": "s3"},
            lambda r: r["reference"] == r["hypothesis"] and r["speaker"] == "s3",
        ),
    ):
        expected = {row["id"] for row in rows if fits(row)}
        for name, text in chosen.items():
            choose(opened, name, text)
        assert 0 < len(expected) < 40
        assert counted(opened).startswith(f"{len(expected)} of 40 utterances")
        assert {*shown(opened)} <= expected and len(shown(opened)) == min(25, len(expected))
        for name in chosen:
            choose(opened, name, "any")
    opened.run(
        "const s = document.querySelector('input[type=search]');"
        "s.value = 'S1-'; s.dispatchEvent(new Event('input'))"
    )
    assert counted(opened).startswith("10 of 40") and all("s1-" in utt for utt in shown(opened))
    opened.run("document.querySelector('button[type=reset]').click()")
    assert counted(opened) == "40 of 40 utterances, worst first; page 1 of 2"


@needs_chromium
@pytest.mark.parametrize("column, key", [("SNR, dB", "snr_db"), ("SI-SDRi, dB", "si_sdri")])
def test_sorting(opened, experiment, column, key):
    value = {row["id"]: float(row[key]) for row in scores_of(experiment)}
    click = f"""document.querySelector("th[data-column='{column}'] button").click()"""
    sort = f"""return document.querySelector("th[data-column='{column}']").ariaSort"""
    assert opened.run(sort) == "none"
    for order, reverse in (("ascending", False), ("descending", True)):
        opened.run(click)
        assert opened.run(sort) == order
        expected = sorted(value.values(), reverse=reverse)[:25]
        assert [value[utt] for utt in shown(opened)] == expected
        others = "return document.querySelectorAll('[aria-sort]:not([aria-sort=none])').length"
        assert opened.run(others) == 1


@needs_chromium
def test_it_plays_whatever_the_id_is(opened):
    """By keyboard alone; with audio that is fetched only then, and one signal at a time."""
    opened.run(
        "const s = document.querySelector('input[type=search]');"
        "s.value = '<b>'; s.dispatchEvent(new Event('input'))"
    )
    assert shown(opened) == [EVIL]
    assert opened.run("return document.querySelectorAll('main b').length") == 0
    assert opened.run("return document.querySelectorAll('audio').length") == 0
    opened.run("document.querySelector('#rows button').focus()")
    opened.press("\ue007")  # Enter
    assert opened.run("return document.querySelector('#rows button').ariaExpanded") == "true"
    names = opened.run("return [...document.querySelectorAll('audio')].map(a => a.ariaLabel)")
    kinds = ("mixture", "extracted speech (denoised_default)", "clean speech", "enrollment")
    assert names == [f"{kind} of {EVIL}" for kind in kinds]
    untouched = "return [...document.querySelectorAll('audio')].map(a => a.readyState)"
    assert opened.run(untouched) == [0, 0, 0, 0]
    opened.press("\ue004", " ")  # Tab, to the first player, whose button has the focus then
    opened.wait("return document.querySelector('audio').currentTime > 0.2")
    assert math.isclose(
        opened.run("return document.querySelector('audio').duration"), 2, abs_tol=0.01
    )
    opened.run("document.querySelectorAll('audio')[3].play()")
    opened.wait("return document.querySelectorAll('audio')[3].currentTime > 0.2")
    assert opened.run("return document.querySelector('audio').paused")
    assert opened.run("return document.querySelectorAll('audio')[3].duration") == pytest.approx(1.5)
    opened.run(
        "window.seen = 0; const image = new Image(); image.onload = () => { seen = image.height };"
        "image.src = document.querySelector('.picture').style.backgroundImage.slice(5, -2)"
    )
    assert opened.wait("return window.seen") == 4 * 128  # one below the other
    opened.run("document.querySelector('#rows button').click()")
    assert opened.run("return [...document.querySelectorAll('audio')].every(a => a.paused)")


@needs_chromium
def test_it_is_there_for_keyboards_and_screen_readers(opened):
    assert opened.run("return document.documentElement.lang") == "en"
    for query, named in (
        ("select, input", "e.closest('label').textContent.trim()"),
        ("button", "e.textContent.trim()"),
        ("th", "e.scope"),
        ("img", "e.alt"),
    ):
        count, nameless = opened.run(
            f"const all = [...document.querySelectorAll('{query}')];"
            f"return [all.length, all.filter(e => !({named})).length]"
        )
        assert count > 0 == nameless, query
    status = "return document.querySelector('[role=status][aria-live=polite]').id"
    assert opened.run(status) == "count"
    opened.run("document.querySelector('input[type=search]').focus()")
    opened.press("s", "2")
    assert counted(opened).startswith("10 of 40")


@needs_chromium
def test_a_thousand_utterances_open_in_a_second(opened, page, tmp_path):
    text = page.read_text(encoding="utf-8")
    start, _, rest = text.partition('id="data">')
    data, _, end = rest.partition("</script>")
    data = json.loads(data)
    one = data["utterances"][1]
    data["utterances"] = [[f"x{number}", *one[1:]] for number in range(2000)]
    many = tmp_path / "many.html"
    encoded = json.dumps(data).replace("<", "\\u003c")
    many.write_text(f'{start}id="data">{encoded}</script>{end}', encoding="utf-8")
    spent = []
    for _ in range(3):
        opened.open(many)
        assert counted(opened).startswith("2000 of 2000")
        timing = "performance.timing"
        spent.append(opened.run(f"return {timing}.loadEventEnd - {timing}.responseEnd"))
    assert min(spent) < 1000  # ms, of twice as many
