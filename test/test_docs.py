"""The commands of docs/ are run, in the order of each page; its notebook too.

The models are tiny ones: of tests where a page takes the one that comes with the package, and of
the mini recipe of debug size where it trains.
"""

import importlib
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from documentation import FENCE, commands, is_printed, read_blocks, to_script
from forked_commands import ForkedCommands
from recipes import DEBUG, ROOT, copy_of_the_recipes
from tiny_formatted import FS, voice

from espnet_tse_ser import console
from espnet_tse_ser.audio.reading import write_audio
from espnet_tse_ser.files import read_tsv

DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text("utf-8") for path in sorted(DOCS.glob("*.md"))}
RECIPE = "egs2/mini_iemocap_mix/tse_ser1"
TRAINED = "tse_debug ser_noisy_debug ser_stats_debug tse_ser_ft_debug scores/noisy_noisy".split()
OF_THE_MINI_RECIPE = {  # what stands for what a reader has
    "train_ser.yaml": "train_ser_debug.yaml",
    "ser_noisy_default": "ser_noisy_debug",
    "train-clean-100": "train-mini",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory, joint_dir):
    """A directory for PYTHONPATH: this package, and as the model that comes with it a tiny one."""
    from espnet_tse_ser.files import checksum
    from espnet_tse_ser.inference import shipped
    from espnet_tse_ser.inference.calibration import Calibration, to_bytes
    from espnet_tse_ser.inference.evidence import FEATURES
    from espnet_tse_ser.inference.packing import pack

    directory = tmp_path_factory.mktemp("package")
    links = directory / "espnet_tse_ser"
    links.mkdir()
    for path in (ROOT / links.name).iterdir():
        if path.name != shipped.DIRECTORY.name:
            (links / path.name).symlink_to(path)
    model = shutil.copytree(joint_dir, directory / "calibrated")
    presence = {"bias": 1.0} | dict.fromkeys(FEATURES, 0.0)
    made = Calibration(checksum(model / "valid.ua.best.pth"), 1.5, presence, {})
    (model / "calibration.json").write_bytes(to_bytes(made))
    pretrained = links / shipped.DIRECTORY.name
    pack(model, pretrained / shipped.DEFAULT, small=True)
    (pretrained / "speaker_encoder").symlink_to(shipped.DIRECTORY / "speaker_encoder")
    return directory


@pytest.fixture(scope="module")
def python(package):
    """What runs all commands of the pages: a server with this package."""
    server = ForkedCommands(str(package))
    yield server.python()
    server.end()


@pytest.fixture
def clone(tmp_path, python, joint_dir, tse_dir):
    """A copy of the recipes, with the recordings and models that the pages speak of."""
    directory = tmp_path / "clone"
    directory.mkdir()
    copy_of_the_recipes(directory)
    for recipe, words in ((RECIPE, DEBUG), ("egs2/ravdess_mix/tse_ser1", ["--nj", "1"])):
        options = " ".join(f"'{word}'" for word in [*words, "--python", python])
        run = directory / recipe / "run.sh"
        run.write_text(run.read_text().replace('"$@"', f'{options} "$@"'))
    rng = np.random.default_rng(0)
    anna, other = (voice(rng, pitch, 6 * FS) for pitch in (210, 120))
    mixture = (anna + other) / 2
    recordings = {
        **{"mixture": mixture[: 2 * FS], "enrollment": anna[: 2 * FS], "anna": anna[-2 * FS :]},
        **{"talks/one": mixture[:FS], "talks/two": mixture[-FS:], "silence": 0 * anna[:FS]},
        "antiphase": np.stack([anna[:FS], -anna[:FS]], 1),
    }
    (directory / "talks").mkdir()
    for name, samples in recordings.items():
        write_audio(directory / f"{name}.wav", samples, FS)
    write_audio(directory / "meeting.flac", mixture, FS)
    (directory / "half.wav").write_bytes((directory / "anna.wav").read_bytes()[:9999])
    (directory / "talk.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(999))
    (directory / "list.tsv").write_text("mixture.wav\tanna.wav;enrollment.wav\tfirst\n")
    shutil.copytree(joint_dir, directory / "exp/tse_ser_ft_default/fold1")
    shutil.copytree(tse_dir, directory / "exp/tse_default")
    return directory


@pytest.fixture
def trained(clone, mini_recipe):
    """The same, and the mini recipe is what the demo makes of it, in debug size."""
    recipe = clone / RECIPE
    for name in ("data", "dump"):
        (recipe / name).symlink_to(mini_recipe / name)
    others = shutil.ignore_patterns("scoring_*")  # other tests may be at work on these
    for name in TRAINED:
        how = {"symlinks": True, "ignore": others}
        shutil.copytree(mini_recipe / "exp" / name, recipe / "exp" / name, **how)
    return clone


@pytest.fixture
def run_page(tmp_path, python):
    """``run_page(name, directory, changes)``: run a page there, with other words in places."""

    def run_page(name, directory, changes=OF_THE_MINI_RECIPE):
        text, outputs = PAGES[name], tmp_path / "outputs"
        outputs.mkdir()
        for old, new in changes.items():
            text = text.replace(old, new)
        blocks = read_blocks(text)
        script = to_script(blocks, outputs)
        command = f'tse-ser() {{ {python} -m espnet_tse_ser "$@"; }}'
        none = os.environ | {"RAVDESS": "", "cmd_backend": "local"}  # whatever this machine has
        done = subprocess.run(["bash", "-c", f"{command}\n{script}"], cwd=directory, env=none)
        printed = {int(path.name): path.read_text() for path in outputs.iterdir()}
        last = max(printed)
        assert done.returncode == 0, f"{blocks[last].text}:\n{printed[last][-3000:]}"
        for block in blocks:
            if block.printed is not None:
                assert is_printed(block.printed, printed[block.number]), (
                    f"{block.text}prints\n{printed[block.number]}and not\n{block.printed}"
                )

    return run_page


def test_use_it_on_my_audio(run_page, clone):
    run_page("use_it_on_my_audio", clone)
    assert len((clone / "results.tsv").read_text().splitlines()) == 3
    assert len((clone / "one.jsonl").read_text().splitlines()) == 1
    assert {path.suffix for path in (clone / "timeline").iterdir()} == {
        *(".json", ".tsv", ".rttm", ".png")
    }
    assert len(list((clone / "extracted").iterdir())) == 2 and (clone / "target.wav").exists()


def test_add_a_corpus(run_page, clone, mini_corpora):
    corpora, rng = clone / "corpora", np.random.default_rng(0)
    _write_some_of(mini_corpora / "LibriSpeech", corpora / "LibriSpeech")
    (corpora / "mine").mkdir()
    speakers = {f"{gender}{number}": gender for gender in "fm" for number in range(4)}
    lines = (f"{name} {gender} {1 + int(name[1]) % 2}\n" for name, gender in speakers.items())
    (corpora / "mine/speakers.txt").write_text("".join(lines))
    for place, name in enumerate(speakers):
        for number, emotion in enumerate("ang hap neu neu sad".split()):
            samples = voice(rng, 100 + 20 * place + 3 * number, FS)
            write_audio(corpora / f"mine/{name}_{emotion}_{number}.wav", samples, FS)
    run_page("add_a_corpus", clone, OF_THE_MINI_RECIPE | {"/corpora": str(corpora)})
    table = read_tsv(clone / "egs2/my_corpus_mix/tse_ser1/data/mix/mixtures.tsv")
    assert len(table) == 40 and {row["fold"] for row in table} == {"1", "2"}


def _write_some_of(source, target):
    """Ten speakers of each gender of a LibriSpeech in miniature."""
    (target / "train-mini").mkdir(parents=True)
    lines = (source / "SPEAKERS.TXT").read_text().splitlines()
    chosen = [line for g in "FM" for line in [x for x in lines if f"| {g} |" in x][:10]]
    (target / "SPEAKERS.TXT").write_text("\n".join(chosen) + "\n")
    for line in chosen:
        name = line.split()[0]
        (target / "train-mini" / name).symlink_to(source / "train-mini" / name)


def test_add_a_system(run_page, trained):
    ids = [
        utt
        for fold in "12"
        for utt in (trained / RECIPE / f"data/mix/splits/fold{fold}/test.lst").read_text().split()
    ]
    table = "".join(f"{utt}\tneu\n" for utt in ids)
    (trained / RECIPE / "theirs.tsv").write_text(f"id\tlabel\n{table}")
    run_page("add_a_system", trained)


def test_add_a_back_end(run_page, trained):
    run_page("add_a_back_end", trained)
    recipe = trained / RECIPE
    assert len(read_tsv(recipe / "exp/scores/noisy_noisy/mine/fold1/hyp.tsv")) == 64
    model = yaml.safe_load((recipe / "exp/ser_noisy_mine/fold1/config.yaml").read_text())
    assert model["encoder"] == "my_encoder:MyEncoder" and model["model"] == "my_model:MyModel"
    assert sorted(model["modules"]) == ["my_encoder", "my_model"]
    with open(recipe / "local/my_encoder.py", "a") as stream:
        stream.write("# changed\n")
    blocks = read_blocks(PAGES["add_a_back_end"])
    (command,) = (c for block in blocks for c in commands(block.text) if "run.sh" in c)
    done = subprocess.run(["bash", "-c", command], cwd=recipe, capture_output=True, text=True)
    assert "ser_stats_mine/noisy was made with other settings" in done.stderr


def test_on_a_cluster(run_page, trained):
    run_page("on_a_cluster", trained)


def test_faq(run_page, trained):
    run_page("faq", trained)


def _options_of(command):
    """The options that a command line of ours may have; None of a program of others."""
    words = command.split()
    if words[0] in ("./run.sh", "./status.sh"):
        text = (ROOT / "egs2/TEMPLATE/tse_ser1/tse_ser.sh").read_text()
        return {f"--{name}" for name in re.findall(r"^(\w+)=.* # ", text, re.MULTILINE)}
    if words[0] == "tse-ser":
        module = importlib.import_module(f"espnet_tse_ser.bin.{console.VERBS[words[1]][0]}")
        return set(module.get_parser()._option_string_actions)
    return None


BLOCKS = [(page, block) for page, text in PAGES.items() for block in read_blocks(text)]
NOT_RUN = [(page, block) for page, block in BLOCKS if block.language == "console"]


@pytest.mark.parametrize("page, block", NOT_RUN, ids=lambda value: getattr(value, "number", value))
def test_what_is_not_run_says_why_and_has_options_that_exist(page, block):
    assert re.search(r"\bneeds?\b", block.above), f"{page}: what does {block.text!r} need?"
    for command in commands(block.text):
        command = re.sub(r'"[^"]*"', "x", command).removeprefix("nohup ")
        options = _options_of(command)
        if options is not None:
            assert set(re.findall(r" (--\w+)", command)) <= options, command


def _anchors(text):
    """The names by which links know the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *DOCS.glob("*.md"), *ROOT.glob("egs2/*/*/README.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            name, _, anchor = link.partition("#")
            if not name.startswith("http"):
                path = page.parent / name if name else page
                assert path.exists(), f"{page}: {link}"
                assert not anchor or anchor in _anchors(path.read_text("utf-8")), f"{page}: {link}"


def test_every_block_is_run_or_says_why_not():
    for page, text in PAGES.items():
        assert f"test_{page}" in globals()
        blocks = [block for name, block in BLOCKS if name == page]
        assert text.count("\n```") == 2 * len(blocks)  # none without a language
        assert not re.search(r"^ {4}", FENCE.sub("", text), re.MULTILINE)  # nor by indentation
        for block in blocks:
            languages = "bash python yaml" if block.path else "bash console text"
            assert block.language in languages.split(), f"{page}: {block.text}"


@pytest.mark.parametrize(
    "command, printed, succeeds",
    [
        ("echo one two", "one ...", True),
        ("echo two", "one ...", False),
        ("false; true", "", False),
        ("echo error: no; false", "error: no", True),
        ("echo error: no", "error: no", False),  # it was to fail
    ],
)
def test_a_wrong_page_is_noticed(tmp_path, command, printed, succeeds):
    lines = command.replace("; ", "\n")
    blocks = read_blocks(f"```bash\n{lines}\n```\n\n```text\n{printed}\n```\n")
    status = subprocess.run(["bash", "-c", to_script(blocks, tmp_path)]).returncode
    same = is_printed(blocks[0].printed, (tmp_path / "0").read_text())
    assert (status == 0 and same) == succeeds


def test_the_notebook(tmp_path, package, monkeypatch):
    """It has no outputs, and runs with the model that comes with the package; here a tiny one."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient, of the extra test, is missing")
    nbclient = pytest.importorskip("nbclient", reason="nbclient, of the extra test, is missing")
    pytest.importorskip("ipykernel", reason="ipykernel, of the extra test, is missing")
    notebook = nbformat.read(DOCS / "from_audio_to_picture.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(package))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    shown = [kind for c in cells for o in c.outputs for kind in o.get("data", ())]
    assert shown.count("text/html") == 3 and shown.count("image/png") == 3
    printed = "".join(o.text for c in cells for o in c.outputs if o.get("name") == "stdout")
    assert re.search(r"^(ang|hap|neu|sad) \{'ang': ", printed, re.MULTILINE)
    assert re.search(r"^target_present 0\.73", printed, re.MULTILINE)
