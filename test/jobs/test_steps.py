"""The steps that a recipe's stages declare: their words, their order, and what is done of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs.lifetime import identity
from espnet_tse_ser.jobs.marks import checksum
from espnet_tse_ser.jobs.step import Step

ROOT = Path(__file__).parents[2]
UTILS = ROOT / "egs2/TEMPLATE/common/utils"
STAND_IN = """#!/usr/bin/env bash
# called as: python -m espnet_tse_ser.bin.COMMAND OPTIONS
echo "${*:2}" | sed 's/^espnet_tse_ser.bin.//' >>calls.txt
[[ $* != *fail* ]] || exit 2
[[ $* != *wait* ]] || sleep 60
[[ $* != *tell* ]] || printf "12:00 INFO: %s\\n" "dump: 5 utterances, 1 MB" "2 x" >&2
"""


class Recipe:
    """A directory in which steps are done, as the script of a recipe would have it."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "in.yaml").write_text("a")
        for name, text in (("stand_in", STAND_IN), ("sub/wrapper", WRAPPER)):
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)

    def start(self, *requests, **settings):
        """Start it with requests of lists of words, one for each step."""
        settings = {
            **{"script": "./tse_ser.sh", "pid": os.getpid(), "python": "./stand_in"},
            **{"train_cmd": "wrapper train", "cuda_cmd": "wrapper cuda", "ngpu": 0},
            **{"num_nodes": 1, "max_jobs": "", "expdir": "exp"},
            **{"on_cluster": "false", "stages": ""},
        } | settings
        command = [sys.executable, "-S", "-m", "espnet_tse_ser.jobs.steps"]
        command += [f"{name}={value}" for name, value in settings.items()]
        path = f"{self.directory}/sub:{UTILS}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 9>answers.txt', "bash", *command],
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        )
        for steps in requests:
            words = [word for step in steps for word in (len(step), *step)]
            data = "".join(f"{word}\0" for word in (len(words), *words)).encode()
            process.stdin.write(data)
            process.stdin.flush()
        return process

    def run(self, *requests, **settings):
        """Its exit status, what it says without the times, and its errors."""
        process = self.start(*requests, **settings)
        out, errors = (text.decode() for text in process.communicate(timeout=60))
        said = [line[11:] if line.startswith("[") else line for line in out.splitlines()]
        return process.returncode, [line.strip() for line in said], errors

    def calls(self, name="calls.txt"):
        path = self.directory / name
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


# Notes how it is called, and does what run.pl does.
WRAPPER = """#!/usr/bin/env bash
echo "$*" >>wrappers.txt
while [[ $1 != JOB=* && $1 != */* ]]; do shift; done
exec run.pl "$@"
"""


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


def words(text):
    return text.split()


# --- the words of a step ------------------------------------------------------------------------


def test_what_identifies_a_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b c"):
        (tmp_path / name).write_text(name)
    step = Step(
        [*"--writes x --unrecorded --nj --redo --setting A=1".split(), "--input", "a.yaml"]
        + ["--input", "b c", "--setting", "B=2", "exp/x", "train", "pos", "--config", "a b.yaml"]
        + ["--on", "--labels", "ang", "neu", "--text", ""]
    )
    assert step.record() == "\n".join(
        ["train pos", "--config a b.yaml", "--on", "--labels ang neu", "--text "]
        + [checksum("a.yaml"), checksum("b c"), "A=1", "B=2"]
    )
    assert (step["writes"], step["unrecorded"], step["redo"]) == ("x", "--nj", True)
    assert (step.dir, step.title, step.log) == ("exp/x", "exp/x", "exp/x/log/train")
    assert Step(["--name", "pack1", "exp/x", "pack"]).title == "exp/x pack1"
    assert Step(["--program", "data", "local/data.sh "]).record() == "local/data.sh "


def test_a_configuration_and_its_bases_identify_a_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/a.yaml").write_text("base: ../b.yaml\n")
    (tmp_path / "b.yaml").write_text("lr: 1\n")
    (tmp_path / "c").write_text("c")
    step = Step(["--config", "conf/a.yaml", "--input", "c", "exp/x", "train"])
    sums = [checksum(path) for path in ("conf/a.yaml", "b.yaml", "c")]
    assert step.record() == "\n".join(["train", *sums])
    (tmp_path / "b.yaml").unlink()
    with pytest.raises(UserError, match=r"conf/a.yaml: line 1: base: \.\./b.yaml: no such file"):
        Step(["--config", "conf/a.yaml", "exp/x", "train"])


def test_an_input_that_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"gone/\.done is missing: run the stage that makes it fir"):
        Step(["--input", f"{tmp_path}/gone/.done", "exp/x", "train"]).record()


def test_an_option_that_there_is_not():
    with pytest.raises(UserError, match="there is no option --read"):
        Step(["--read", "x", "exp/x", "train"])


def test_which_steps_run_side_by_side():
    first = Step(words("--batch --train 1 exp/a train"))
    for text, expected in (
        ("--batch --train 1 exp/b train", True),
        ("--batch --train 1 --input exp/b/.done exp/c train", True),
        ("--batch --train 1 --input exp/a/.done exp/c train", False),
        ("--batch --train 2 exp/b train", False),
        ("--batch exp/b stats", False),
        ("--batch --train 1 --network exp/b train", False),
        ("--train 1 exp/b train", False),
    ):
        assert Step(words(text)).can_join([first]) == expected, text


# --- doing them ---------------------------------------------------------------------------------


def test_one_after_the_other_and_alike_side_by_side(recipe):
    steps = [
        "--nj 2 --input in.yaml dump/x simulate --a 1",
        "--batch --train 3 --input dump/x/.done exp/a train --a",
        "--batch --train 3 --input dump/x/.done --writes y exp/b train --b",
        "--batch --train 3 --input exp/b/.done exp/c train --c",
        "--batch --unrecorded --n=3 --input exp/c/.done exp/d infer --d",
        "--name one --input exp/d/.done exp score",
    ]
    status, said, errors = recipe.run([*map(words, steps)], max_jobs=5, ngpu=1)
    assert (status, errors) == (0, "")
    batch = f"exp/.batch.{os.uname().nodename}."
    train = "cuda --gpu 1 --num_threads 3 --max-jobs-run 5"
    wrapped = [line.split(batch)[0] for line in recipe.calls("wrappers.txt")]
    assert wrapped == [
        "train JOB=1:2 dump/x/log/simulate.JOB.log bash dump/x/log/simulate.sh --job JOB --nj 2",
        "train dump/x/log/simulate.combine.log bash dump/x/log/simulate.combine.sh --combine"
        " --nj 2",
        f"{train} JOB=1:2 ",
        f"{train} JOB=1:1 ",
        "train --max-jobs-run 5 JOB=1:1 ",
        "train --max-jobs-run 5 JOB=1:1 ",
    ]
    calls = recipe.calls()
    assert sorted(calls[:2]) == [f"simulate --a 1 --job {n} --nj 2" for n in (1, 2)]
    assert sorted(calls[3:5]) == ["train --a --ngpu 1", "train --b --ngpu 1"]
    assert calls[2] == "simulate --a 1 --combine --nj 2"
    assert calls[5:] == ["train --c --ngpu 1", "infer --d --n=3", "score"]
    assert said == [
        *("dump/x: simulate, 2 job(s), log in dump/x/log/simulate.*.log", "dump/x: written"),
        *(f"exp/{n}: train, log in exp/{n}/log/train.log" for n in "ab"),
        *(f"exp/{n}: written" for n in "ab"),
        *("exp/c: train, log in exp/c/log/train.log", "exp/c: written"),
        *("exp/d: infer, log in exp/d/log/infer.log", "exp/d: written"),
        *("exp: score, log in exp/log/score.log", "exp: written"),
    ]
    assert recipe.calls("answers.txt") == ["done"]
    assert sorted(p.name for p in (recipe.directory / "exp").iterdir()) == [
        *(".done.one", "a", "b", "c", "d", "log")
    ]
    again = recipe.run([*map(words, steps)])
    assert again[0] == 0 and not recipe.calls() and not recipe.calls("wrappers.txt")
    assert again[1][-2:] == ["exp/d: done already", "exp one: done already"]


@pytest.mark.parametrize("ngpu", [0, 1, 2])
def test_what_runs_a_network_gets_one_gpu_if_there_are_some(recipe, ngpu, monkeypatch):
    steps = [
        words("--network --nj 1 dump/x extract --a"),
        words("--network --batch exp/b infer --b"),
        words("--network --batch --input exp/b/.done exp/c infer --c"),
        words("--batch exp/d import --d"),
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    status, _, errors = recipe.run(steps, ngpu=ngpu)
    assert (status, errors) == (0, "")
    wrapper, device = ("cuda --gpu 1", " --device cuda") if ngpu else ("train", "")
    called = [
        line.split("JOB=")[0].split("dump")[0].rstrip() for line in recipe.calls("wrappers.txt")
    ]
    assert called == [wrapper, "train", wrapper, wrapper, "train"]
    assert recipe.calls() == [
        *(f"extract --a{device} --job 1 --nj 1", "extract --a --combine --nj 1"),
        *(f"infer --b{device}", f"infer --c{device}", "import --d"),
    ]


def test_several_requests(recipe):
    requests = [
        [["exp/a", "one"]],
        [],
        [["exp/b", "two"], ["--input", "exp/b/.done", "c", "three"]],
    ]
    assert recipe.run(*requests)[0] == 0
    assert recipe.calls() == ["one", "two", "three"]
    assert recipe.calls("answers.txt") == ["done"] * 3


def test_words_reach_the_command_as_they_are(recipe):
    odd = ["a b", "$HOME", "`x`", "'\"", "JOB", "*", "", "\n", "ü", os.fsdecode(b"\xe9")]
    process = recipe.start()
    step = [b"exp/x", b"odd", *map(os.fsencode, odd)]
    requested = [str(len(step) + 1).encode(), str(len(step)).encode(), *step]
    process.communicate(b"".join(word + b"\0" for word in requested), timeout=60)
    assert process.returncode == 0
    called = (recipe.directory / "calls.txt").read_bytes()
    assert called == os.fsencode("odd " + " ".join(odd)) + b"\n"


def test_a_large_request(recipe):
    steps = [["--redo", "--name", str(n), "exp/x", "do", "--word", "x" * 3000] for n in range(100)]
    (recipe.directory / "exp/x").mkdir(parents=True)
    for *_, name, directory, command, option, text in (s for s in steps):
        mark = recipe.directory / directory / f".done.{name}"
        mark.write_text(f"{command}\n{option} {text}\n")
    status, said, _ = recipe.run(steps)
    assert status == 0 and len(said) == 100 and not recipe.calls()


def test_other_settings_are_told(recipe):
    assert recipe.run([words("exp/x train --a 1 --b --c")])[0] == 0
    status, said, errors = recipe.run([words("exp/x train --a 2 --b")])
    assert status == 1 and said == []
    assert errors.splitlines() == [
        "tse_ser.sh: exp/x was made with other settings ('<' what it has, '>' what is asked):",
        *("    < --a 1", "    > --a 2", "    < --c"),
        "Remove exp/x to make it again, or use another tag or directory, or remove only",
        "exp/x/.done to keep what is there and go on from it.",
    ]
    assert recipe.calls("answers.txt") == [] and len(recipe.calls()) == 1
    assert not list(recipe.directory.glob("exp/**/.lock*"))
    status, said, _ = recipe.run([words("--redo exp/x train --a 2 --b")])
    assert status == 0 and said[0] == "exp/x: again, as its settings or inputs changed"


def test_the_others_of_a_batch_finish(recipe):
    steps = [words(f"--batch exp/{n} train --{n}") for n in ("one", "fail", "two")]
    steps.append(["exp/after", "after"])
    status, said, errors = recipe.run(steps)
    assert status == 1
    assert "tse_ser.sh: failed: exp/fail (log in exp/fail/log/train.log)\n" in errors
    assert said[-2:] == ["exp/one: written", "exp/two: written"]
    assert not list(recipe.directory.glob("exp/.batch*"))
    assert not any(call.startswith("after") for call in recipe.calls())
    status, said, _ = recipe.run(steps[:2])
    assert "exp/fail: going on with what was begun" in said
    assert (recipe.directory / "exp/fail/log/train.previous.log").exists()


@pytest.mark.parametrize("which", ["part", "combining"])
def test_an_array_that_fails(recipe, which):
    directory = "dump/fail" if which == "part" else "dump/x"
    if which == "combining":
        (recipe.directory / "stand_in").write_text(STAND_IN + "[[ $* != *combine* ]] || exit 2\n")
    status, _, errors = recipe.run([["--nj", "2", directory, "simulate", "--to", directory]])
    assert status == 1 and f"tse_ser.sh: {directory}: failed (simulate)" in errors
    assert [p.name for p in (recipe.directory / directory).glob(".*")] == [".begun"]


def test_a_program(recipe):
    script = recipe.directory / "data.sh"
    script.write_text("#!/bin/sh\necho it is $*; cp $1 data/out; ls -A data\n")
    step = [
        "--program",
        "--redo",
        "--writes",
        "o*",
        "--expects",
        "out",
        "data",
        "./data.sh  in  x ",
    ]
    status, _, errors = recipe.run([step])
    assert (status, errors) == (1, "tse_ser.sh: ./data.sh: Permission denied\n")
    script.chmod(0o755)
    (recipe.directory / "in").write_text("x")
    status, said, _ = recipe.run([step])
    assert status == 0 and said == [
        *("data: going on with what was begun", "it is in x", ".begun", ".lock", "out")
    ]
    assert recipe.run([step])[1] == ["data: done already"]
    (recipe.directory / "data/out").unlink()
    (recipe.directory / "in").write_text("")
    assert recipe.run([step])[2] == (
        "tse_ser.sh: ./data.sh wrote no data/out; ./data.sh --help lists its options\n"
    )
    (recipe.directory / "in").unlink()
    script.write_text("#!/bin/sh\nexit 3\n")
    assert recipe.run([step])[2] == "tse_ser.sh: ./data.sh failed\n"
    assert not (recipe.directory / "data/.done").exists()


def test_what_a_log_tells_is_shown_each_time(recipe):
    steps = [words("--nj 1 --tell X dump/x features --tell"), words("exp/x train --tell")]
    steps[0][3] = "none|.* utterances, (1|2) MB"
    shown = "dump: 5 utterances, 1 MB"
    assert recipe.run(steps)[1].count(shown) == 1
    assert recipe.run(steps)[1] == ["dump/x: done already", shown, "exp/x: done already"]


def test_a_directory_that_cannot_be_made(recipe):
    (recipe.directory / "exp").write_text("")
    status, _, errors = recipe.run([["exp/x", "train"]])
    assert status == 1
    assert errors.startswith(
        "tse_ser.sh: exp/x/.done: Not a directory; a part of the path is a file"
    )
    assert len(errors.splitlines()) == 1


def test_nobody_reads_what_is_said(recipe):
    process = recipe.start()
    process.stdout.close()
    _, errors = process.communicate(b"3\x002\x00exp/x\x00train\x00", timeout=30)
    assert process.returncode == 128 + signal.SIGPIPE and not errors
    assert not list(recipe.directory.glob("exp/**/.lock*"))


def wait_for(condition):
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it does not come")


def runs(recipe):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == recipe.directory:
                found.append(process.joinpath("cmdline").read_text())
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all(recipe, number, busy):
    process = recipe.start([["exp/x", "train", "--wait" if busy else "--go"]])
    wait_for((recipe.directory / "calls.txt").exists)
    if not busy:
        wait_for((recipe.directory / "answers.txt").read_text)
    process.send_signal(number)
    assert process.wait(20) == 130
    assert runs(recipe) == []
    assert not list(recipe.directory.glob("exp/**/.lock*"))
    assert not list(recipe.directory.glob("exp/.batch*"))


def test_it_ends_with_the_script(recipe):
    script = subprocess.Popen(["sleep", "60"])
    process = recipe.start([["exp/x", "train", "--wait"]], pid=script.pid)  # not its parent
    assert process.wait(20) == 130
    script.kill()
    script.wait()
    assert runs(recipe) == []


@pytest.mark.parametrize("step", [["exp/x", "train", "--wait"], ["--program", "exp/x", "sleep 60"]])
def test_when_it_is_killed_the_next_waits_for_what_it_leaves(recipe, step):
    process = recipe.start([step])
    lock = recipe.directory / "exp/x/.lock"
    wait_for(lambda: lock.exists() and "group" in lock.read_text() and len(runs(recipe)) > 1)
    process.kill()
    process.wait()
    (recipe.directory / "stand_in").write_text("#!/bin/sh\nexit 0\n")
    step[-1] = step[-1].replace("sleep 60", "true")
    for _ in range(2):
        status, said, errors = recipe.run([["--redo", *step]])
        assert status == 0, errors
    assert said[0] == "exp/x: done already"
    assert runs(recipe) == [] and not list(recipe.directory.glob("**/.lock*"))


def test_when_its_script_is_killed_the_next_waits_for_it(recipe):
    """On a cluster it takes a while to end: its jobs are cancelled, and save their work."""
    script, ending = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    (recipe.directory / "exp/x").mkdir(parents=True)
    me, mine = identity(ending.pid), identity(script.pid)
    lock = f"{me}\nsince then by: ./y.sh\nscript {mine}\n"
    (recipe.directory / "exp/x/.lock").write_text(lock)
    status, _, errors = recipe.run([["exp/x", "train"]])
    assert status == 1 and f"process {ending.pid} on" in errors  # a script that goes on
    script.kill()
    script.wait()
    threading.Timer(1, lambda: (ending.kill(), ending.wait())).start()
    status, _, errors = recipe.run([["exp/x", "train"]])
    assert status == 0, errors
    assert ending.returncode is not None
    assert not list(recipe.directory.glob("exp/**/.lock*"))


def test_a_lock_of_another(recipe):
    (recipe.directory / "exp/x").mkdir(parents=True)
    for line, who in (
        ("elsewhere 12 3456\nsince then by: ./y.sh\ngroup 7\n", "process 12 on elsewhere"),
        ("\n", "process ? on ?"),
    ):
        (recipe.directory / "exp/x/.lock").write_text(line)
        status, _, errors = recipe.run([["exp/x", "train"]])
        assert status == 1
        assert errors.startswith(f"tse_ser.sh: exp/x: {who} is working on it (")
        assert "If it has ended (or its machine), remove exp/x/.lock\n" in errors
