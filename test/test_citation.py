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
