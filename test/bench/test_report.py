"""Sections of RESULTS.md, and the command that writes them."""

import doctest
import sys
from types import ModuleType

import pytest

from bench import data_wait, report
from bench import run as bench_run
from bench.measure import Unequal
from bench.memory import read_kib
from bench.report import provenance, read_sections, replace_section
from espnet_tse_ser.errors import UserError, run

ORDER = ("extractor", "joint", "startup")


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    path = tmp_path / "RESULTS.md"
    for name, text in (
        ("startup", "s1"),
        ("extractor", "e1\n\n### part\n\n| a |"),
        ("joint", "j1"),
    ):
        replace_section(path, name, text, ORDER)
    replace_section(path, "joint", "j2\n", ORDER)
    sections = read_sections(path)
    assert list(sections) == list(ORDER)
    assert sections == {
        "extractor": "e1\n\n### part\n\n| a |\n",
        "joint": "j2\n",
        "startup": "s1\n",
    }
    before = path.read_text()
    replace_section(path, "joint", "j2", ORDER)
    assert path.read_text() == before
    assert before.startswith("# ")
    assert [p.name for p in tmp_path.iterdir()] == ["RESULTS.md"]


@pytest.mark.parametrize("module", [report, data_wait])
def test_examples(module):
    assert doctest.testmod(module).attempted > 0 == doctest.testmod(module).failed


def test_no_file_no_sections(tmp_path):
    assert read_sections(tmp_path / "RESULTS.md") == {}


@pytest.fixture
def sections(monkeypatch):
    """Two sections: one that can be measured, one whose sides are unequal."""
    monkeypatch.setattr(bench_run, "SECTIONS", ("good", "bad"))
    monkeypatch.setattr(bench_run, "provenance", lambda rounds: f"{rounds} rounds.")
    for name in ("good", "bad"):
        module = ModuleType(f"bench.{name}", f"About {name}.")
        monkeypatch.setitem(sys.modules, f"bench.{name}", module)
    sys.modules["bench.good"].section = lambda rounds: "| measured |\n"

    def unequal(rounds):
        raise Unequal("estimates differ")

    sys.modules["bench.bad"].section = unequal


def test_an_unequal_case_stops_its_section_only(sections, tmp_path, caplog):
    path = tmp_path / "RESULTS.md"
    replace_section(path, "bad", "as it was", ("good", "bad"))
    assert run(bench_run.main, ["--output", str(path), "--rounds", "3"]) == 1
    assert "bad: estimates differ" in caplog.text
    written = read_sections(path)
    assert written["bad"] == "as it was\n"
    assert written["good"] == "About good.\n\n3 rounds.\n\n| measured |\n"


def test_a_defect_does_not_lose_the_other_sections(sections, tmp_path, caplog, monkeypatch):
    path = tmp_path / "RESULTS.md"
    monkeypatch.setattr(sys.modules["bench.bad"], "section", lambda rounds: 1 / 0)
    options = ["--only", "bad", "good", "--output", str(path)]
    assert run(bench_run.main, options) == 1
    assert "bad failed" in caplog.text and "ZeroDivisionError" in caplog.text
    assert list(read_sections(path)) == ["good"]


def test_only_leaves_the_others(sections, tmp_path):
    path = tmp_path / "RESULTS.md"
    replace_section(path, "bad", "as it was", ("good", "bad"))
    assert run(bench_run.main, ["--only", "good", "--output", str(path)]) == 0
    assert list(read_sections(path)) == ["good", "bad"]


def test_unknown_sections_are_refused():
    with pytest.raises(UserError, match="--only nonsense: no such section"):
        bench_run.main(["--only", "nonsense"])


def test_every_section_has_a_title(capsys):
    assert bench_run.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(bench_run.SECTIONS)
    assert all(line.endswith(".") for line in lines)


def test_provenance_names_commit_machine_and_versions():
    text = provenance(7, packages=("numpy",))
    assert "commit " in text and " cores" in text and "numpy " in text and "7 rounds" in text


def test_memory_of_a_process(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  300 kB\nVmRSS:\t  100 kB\n")
    assert read_kib(status, "VmHWM") - read_kib(status, "VmRSS") == 200
    with pytest.raises(KeyError, match="VmSwap"):
        read_kib(status, "VmSwap")
