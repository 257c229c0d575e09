"""CITATION.cff says what setup.py and the README say."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_what_it_says():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for key in ("version", "license"):
        assert re.search(rf'^    {key}="(.*)",$', setup, re.MULTILINE)[1] == cited[key]
    named = str(cited["references"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Results")[0]
    numbers = re.findall(r"arxiv.org/abs/([\d.]+)", readme)
    dois = {"2404.12979": "10.1016/j.apacoust.2024.110169"}
    assert numbers and all(dois.get(number, number) in named for number in numbers)
    for reference in cited["references"]:
        assert reference["title"] and reference["year"] and reference["authors"]


def test_bibtex_has_the_software_and_all_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    text = (ROOT / "CITATION.bib").read_text(encoding="utf-8")
    assert f"version = {{{cited['version']}}}" in text
    plain = re.sub(r"[{}\\]", "", text)
    for entry in (cited, *cited["references"]):
        assert f" {entry['title']}," in plain
    for reference in cited["references"]:
        names = (f"{a['family-names']}, {a['given-names']}" for a in reference["authors"])
        assert f" {' and '.join(names)}," in plain and f" {reference['year']}," in plain
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Results")[0]
    (other,) = re.findall(r"https://par.nsf.gov/biblio/\d+", readme)
    assert other in text
    for entry in re.split(r"^@", text, flags=re.MULTILINE)[1:]:
        assert entry.count("{") == entry.count("}")
