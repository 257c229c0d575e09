"""RESULTS_SWEEPS.md, sweeps.json and plots on disk."""

import json

import pytest
from declared import SYSTEMS_DIR
from score_tables import write_scores

from espnet_tse_ser.bin import sweeps_report
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.report.stamp import commit_of

SYSTEMS = ("clean_clean", "noisy_noisy", "base", "ft")
MADE = {"scheme": "loso", "dev": "by speaker, 9 %", "utterances": "50"}


@pytest.fixture
def exp(tmp_path):
    """Two sweeps; ft is missing in one test, another is not run at all."""
    write_scores(tmp_path, systems=SYSTEMS, **MADE)
    (tmp_path / "conf").mkdir()
    for name, sweep, value, systems in (
        ("snr_-5", "SNR, dB", -5, SYSTEMS[1:]),
        ("snr_5", "SNR, dB", 5, SYSTEMS[1:3]),
        ("talkers_3", "talkers", 3, ()),
    ):
        text = f"sweep: {sweep}\nvalue: {value}\nabout: as {value}\nsnr: 1\n"
        (tmp_path / f"conf/{name}.yaml").write_text(text)
        if systems:
            write_scores(tmp_path / "x", systems=systems, **MADE)
            (tmp_path / "tests").mkdir(exist_ok=True)
            (tmp_path / "x/scores").rename(tmp_path / f"tests/{name}")
    return tmp_path


def arguments(exp, *more):
    options = dict(sweeps_dir="tests", conf_dir="conf", scores_dir="scores", output_dir="out")
    return [
        *(f"--{option}={exp}/{path}" for option, path in options.items()),
        f"--systems_dir={SYSTEMS_DIR}",
        *more,
    ]


def test_outputs(exp, caplog):
    sweeps_report.main(arguments(exp))
    figures = json.loads((exp / "out/sweeps.json").read_text())
    assert figures["scheme"]["scheme"] == "loso" and figures["scheme"]["seeds"] == ["0"]
    snr, talkers = figures["sweeps"]
    assert [row["value"] for row in snr["rows"]] == ["main", -5, 5]
    assert snr["missing"] == {"snr_5": ["ft"]}
    assert [row["value"] for row in talkers["rows"]] == ["main"]
    assert talkers["missing"] == {"talkers_3": ["noisy_noisy", "base", "ft"]}
    text = (exp / "out/RESULTS_SWEEPS.md").read_text()
    assert f"| git commit | {commit_of() or 'n/a'} |\n\n## SNR, dB" in text
    assert "Scheme loso; dev: by speaker, 9 %; folds 1, 2 pooled" in text
    assert "no means over folds); 40 of 50 utterances; seed 0." in text
    assert "Not run yet: snr_5 (ft)." in text and "(plots/sweep_SNR_dB.png)" in text
    names = {path.name for path in (exp / "out/plots").iterdir()}
    assert names == {"sweep_SNR_dB.png", "sweep_SNR_dB.pdf"}
    assert "talkers_3: not run yet: noisy_noisy base ft" in caplog.text
    first = (exp / "out/sweeps.json").read_bytes()
    sweeps_report.main(arguments(exp))
    assert (exp / "out/sweeps.json").read_bytes() == first


def test_only_what_is_asked_for(exp):
    sweeps_report.main(arguments(exp, "--sweeps", "snr_5"))
    figures = json.loads((exp / "out/sweeps.json").read_text())
    assert [row["value"] for sweep in figures["sweeps"] for row in sweep["rows"]] == ["main", 5]
    assert figures["unknown"] == []
    with pytest.raises(UserError, match="conf: no snr_6.yaml in it"):
        sweeps_report.main(arguments(exp, "--sweeps", "snr_5 snr_6"))


def test_rows(exp, caplog):
    """Two tags of a system are two; one that cannot be compared is left out, or an error."""
    write_scores(exp, systems=["ft"], tag="big+default+default", **MADE)
    asked = ["--rows", "ft/default noisy_noisy/default"]
    sweeps_report.main(arguments(exp, *asked))
    text = (exp / "out/RESULTS_SWEEPS.md").read_text()
    assert "| UA ft (big+default+default) | UA ft (default) |" in text
    assert "snr_-5 (ft (big+default+default))" in text  # of this one no sweep was run
    path = exp / "scores/ft/big+default+default/score_utt.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    sweeps_report.main(arguments(exp, *asked))
    assert "big" not in (exp / "out/RESULTS_SWEEPS.md").read_text()
    assert "ft (big+default+default) is not shown: " in caplog.text
    with pytest.raises(UserError, match=r"big.default.default/score_utt.tsv: lacks 1 utterance"):
        sweeps_report.main(arguments(exp))
    with pytest.raises(UserError, match="--rows is empty; name rows"):
        sweeps_report.main(arguments(exp, "--rows", " "))
    with pytest.raises(UserError, match="--rows ft/more: .* has no score_utt.tsv of it"):
        sweeps_report.main(arguments(exp, "--rows", "ft/more"))


def test_nothing_run_and_other_classes(exp, capsys):
    path = exp / "tests/snr_5/base/default/score_utt.tsv"
    path.write_text(path.read_text().replace("sad", "hap"))
    assert run(sweeps_report.main, arguments(exp)) == 2
    assert "base/default/score_utt.tsv: classes are ang hap, but ang sad in the main" in (
        capsys.readouterr().err
    )
    (exp / "tests").rename(exp / "elsewhere")
    with pytest.raises(UserError, match="of what is in .*conf; run them first"):
        sweeps_report.main(arguments(exp))
