"""utils/run.pl and utils/stdout.pl keep Kaldi's contract for queue wrappers."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_tse_ser.jobs.command_line import WrapperError, parse_command_line, quote

UTILS = Path(__file__).parents[2] / "egs2/TEMPLATE/common/utils"


def wrapper(*words, name="run.pl", cwd=None, **env):
    return subprocess.run(
        [sys.executable, UTILS / name, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=30,
    )


def log_body(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_one_job_writes_header_output_and_footer(tmp_path):
    log = tmp_path / "new" / "x.log"
    result = wrapper(log, "echo", "out;", "echo", "error", ">&2")
    assert result.returncode == 0
    assert result.stdout == result.stderr == ""
    lines = log.read_text().splitlines()
    assert lines[0] == "# echo out; echo error >&2"
    assert lines[1].startswith("# Started at ")
    assert lines[2:5] == ["#", "out", "error"]
    assert re.fullmatch(r"# Accounting: time=\d+ threads=1", lines[5])
    assert re.fullmatch(r"# Ended \(code 0\) at .*, elapsed time \d+ seconds", lines[6])


def test_job_number_is_substituted_in_log_and_command(tmp_path):
    assert wrapper("JOB=2:4", tmp_path / "x.JOB.log", "echo", "aJOBb", "JOB").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.2.log", "x.3.log", "x.4.log"]
    assert log_body(tmp_path / "x.3.log") == ["a3b 3"]


def test_name_of_the_index_is_free_and_one_job_needs_no_name_in_its_log(tmp_path):
    assert wrapper("TASK_2=7", tmp_path / "x.log", "echo", "TASK_2").returncode == 0
    assert log_body(tmp_path / "x.log") == ["7"]


@pytest.mark.parametrize(
    "words",
    [
        ["--mem", "2G", "--num-threads", "3", "JOB=1:2"],
        ["JOB=1:2", "--mem", "2G", "--max-jobs-run", "1"],
        ["-V", "-sync", "y", "--gpu", "0", "JOB=1:2", "-pe", "smp", "4", "-tc", "2"],
    ],
)
def test_options_before_and_after_the_range(words, tmp_path):
    assert wrapper(*words, tmp_path / "x.JOB.log", "echo", "JOB").returncode == 0
    assert log_body(tmp_path / "x.2.log") == ["2"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["JOB=0:5", "x.JOB.log", "true"], "start at 1"),
        (["JOB=3:2", "x.JOB.log", "true"], "empty"),
        (["JOB=1:2", "x.log", "true"], "a log each"),
        (["x.log"], "expected"),
        ([], "expected"),
        (["--gpu"], "--gpu needs 1"),
        (["--max-jobs-run", "0", "x.log", "true"], "--max-jobs-run 0"),
        (["--gpu", "x", "x.log", "true"], "--gpu x: expected a number"),
        (["--pick", "failed", "x.log", "true"], "--pick is not supported"),
    ],
)
def test_wrong_command_line(words, message, tmp_path):
    result = wrapper(*words, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("run.pl: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_quoting(tmp_path):
    words = ["printf", r"%s\\n", "two words", 'say "hi there"', 'it\'s "here now"', "", "$HOME"]
    assert wrapper(tmp_path / "x.log", *words).returncode == 0
    expected = ["two words", 'say "hi there"', 'it\'s "here now"', "", os.environ["HOME"]]
    assert log_body(tmp_path / "x.log") == expected


def test_bare_words_act_in_the_shell(tmp_path):
    assert wrapper(tmp_path / "x.log", "echo", "abc", "|", "tr", "a", "z").returncode == 0
    assert log_body(tmp_path / "x.log") == ["zbc"]
    assert quote(r"\|") == r"\|"


def test_failures_are_summarised_with_the_end_of_the_first_log(tmp_path):
    command = "for i in {1..50}; do echo line $i of JOB; done; test JOB -lt 3".split()
    result = wrapper("JOB=1:4", tmp_path / "x.JOB.log", *command)
    assert result.returncode == 1
    assert f"2 / 4 failed, log is in {tmp_path}/x.*.log (exit status 1: 3-4)" in result.stderr
    assert "line 50 of 3" in result.stderr
    assert "line 2 of 3" not in result.stderr
    assert "of 4" not in result.stderr
    assert "# Ended (code 1) at" in (tmp_path / "x.3.log").read_text()


def test_a_killed_job_is_a_failure(tmp_path):
    assert wrapper(tmp_path / "x.log", "kill", "-9", "$$").returncode == 1
    assert "# Ended (code 0; signal 9) at" in (tmp_path / "x.log").read_text()


def test_many_jobs_and_a_limit(tmp_path):
    script = tmp_path / "job.sh"
    # Each job counts the jobs that run beside it.
    script.write_text("touch run.$1; beside=(run.*); echo ${#beside[@]}; sleep 0.02; rm run.$1")
    words = ["--max-jobs-run", "3", "JOB=1:40", "log/JOB.log", "bash", script, "JOB"]
    assert wrapper(*words, cwd=tmp_path).returncode == 0
    counts = [int(log_body(tmp_path / f"log/{n}.log")[0]) for n in range(1, 41)]
    assert max(counts) == 3


def test_each_job_gets_its_own_gpu(tmp_path):
    words = ["--gpu", "1", "JOB=1:4", tmp_path / "JOB.log", "sleep", "0.2;"]
    words += ["echo", "$CUDA_VISIBLE_DEVICES"]
    assert wrapper(*words, CUDA_VISIBLE_DEVICES="4,6").returncode == 0
    used = [log_body(tmp_path / f"{n}.log")[0] for n in range(1, 5)]
    assert sorted(used[:2]) == sorted(used[2:]) == ["4", "6"]


def test_a_wrapper_below_a_wrapper_keeps_to_its_gpus(tmp_path):
    # as espnet2.bin.launch is run for several trainings side by side
    inner = [sys.executable, UTILS / "run.pl", "--gpu", "2", tmp_path / "JOB.log"]
    words = ["--gpu", "2", "JOB=1:2", tmp_path / "outer.JOB.log", *inner]
    words += ["echo", r"\$CUDA_VISIBLE_DEVICES"]
    assert wrapper(*words, CUDA_VISIBLE_DEVICES="0,1,2,3").returncode == 0
    assert sorted(log_body(tmp_path / f"{n}.log")[0] for n in (1, 2)) == ["0,1", "2,3"]


def test_too_few_gpus(tmp_path):
    result = wrapper("--gpu", "2", tmp_path / "x.log", "true", CUDA_VISIBLE_DEVICES="0")
    assert result.returncode == 1
    assert "--gpu 2: this machine offers 1 GPU(s)" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["run.pl", "stdout.pl"])
def test_a_signal_ends_the_jobs_and_their_children(number, name, tmp_path):
    # One of the job's children is in the background: ending the job's shell would not end it.
    script = "sleep 60 & echo $! > JOB.pid; wait".split()
    words = ["--max-jobs-run", "2", "JOB=1:3", "JOB.log", *script]
    process = subprocess.Popen(
        [sys.executable, UTILS / name, *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    pids = [_read_when_there(tmp_path / f"{n}.pid") for n in (1, 2)]
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "interrupted" in errors
    assert not any(_runs(pid) for pid in pids)
    assert not (tmp_path / "3.log").exists()
    assert "# Ended (" in (tmp_path / "1.log").read_text()


@pytest.mark.parametrize("victim", ["wrapper", "recipe"])
def test_no_job_outlives_a_wrapper_or_recipe_that_is_killed(victim, tmp_path):
    recipe = subprocess.Popen(["sleep", "60"])
    start = Path(f"/proc/{recipe.pid}/stat").read_text().rpartition(")")[2].split()[19]
    # Some of what the job starts leaves its process group.
    script = "sleep 60 & echo $! > JOB.pid; setsid sleep 60 & echo $! > JOB.setsid.pid; wait"
    process = subprocess.Popen(
        [
            sys.executable,
            UTILS / "run.pl",
            "--max-jobs-run",
            "2",
            "JOB=1:2",
            "JOB.log",
            *script.split(),
        ],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RECIPE_PROCESS": f"{recipe.pid} {start}"},
        start_new_session=True,
    )
    pids = [_read_when_there(tmp_path / f"{n}.pid") for n in (1, 2)]
    pids += [_read_when_there(tmp_path / f"{n}.setsid.pid") for n in (1, 2)]
    (process if victim == "wrapper" else recipe).kill()
    recipe.wait() if victim == "recipe" else process.wait()
    for _ in range(500):
        if not any(map(_runs, pids)):
            break
        time.sleep(0.02)
    assert not any(map(_runs, pids if victim == "wrapper" else pids[:2]))
    assert process.wait(20) in (-signal.SIGKILL, 128 + signal.SIGHUP)
    recipe.kill()
    recipe.wait()
    for pid in filter(_runs, pids):
        os.kill(pid, signal.SIGKILL)


def test_a_job_whose_shell_is_killed_leaves_no_child(tmp_path):
    script = "sleep 60 & echo $! > pid; kill -9 $$".split()
    result = wrapper("x.log", *script, cwd=tmp_path)
    assert result.returncode == 1
    assert "killed by SIGKILL" in result.stderr
    assert not _runs(int((tmp_path / "pid").read_text()))


def test_a_signal_without_a_name(tmp_path):
    result = wrapper("x.log", "kill", "-40", "$$", cwd=tmp_path)
    assert result.returncode == 1
    assert "killed by signal 40" in result.stderr


def test_a_command_that_is_too_long(tmp_path):
    result = wrapper("x.log", "echo", *map(str, range(30000)), cwd=tmp_path)
    assert result.returncode == 1
    assert "job 1 cannot be started (Argument list too long)" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_command_that_is_not_utf_8(tmp_path):
    result = wrapper("x.log", "echo", os.fsdecode(b"caf\xe9"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_stdout_pl_into_a_closed_pipe(tmp_path):
    command = f"timeout 20 {sys.executable} {UTILS}/stdout.pl x.log seq 200000 | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout == "1\n"
    assert result.returncode != 124 and "Traceback" not in result.stderr
    assert log_body(tmp_path / "x.log")[-1] == "200000"


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = wrapper("JOB=1:2", "file/x.JOB.log", "true", cwd=tmp_path)
    assert result.returncode == 1
    assert "file/x.1.log: the log cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_stdout_pl_shows_the_output_and_does_not_mask_a_failure(tmp_path):
    result = wrapper(tmp_path / "x.log", "echo", "shown;", "exit", "3", name="stdout.pl")
    assert result.returncode == 1
    assert result.stdout == "shown\n"
    assert log_body(tmp_path / "x.log") == ["shown"]
    assert "# Ended (code 3)" in (tmp_path / "x.log").read_text()


def test_needs_nothing_but_a_bare_python(tmp_path):
    """-S -E: nothing but the standard library can be imported."""
    script = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], {}, '__main__')"
    )
    command = [sys.executable, "-S", "-E", "-c", script, UTILS / "run.pl", tmp_path / "x", "true"]
    assert subprocess.run(command).returncode == 0


def test_parse_keeps_unknown_options():
    array = parse_command_line("--num-nodes 2 J=1:3 --name a/b l.J c J".split())
    assert array.options == {"num_nodes": "2", "name": "a/b"}
    assert (array.name, array.first, array.last) == ("J", 1, 3)
    assert array.log_of(2) == "l.2"
    assert array.script_of(2) == "c 2"
    assert array.logs_pattern() == "l.*"
    with pytest.raises(WrapperError, match="a log each"):
        parse_command_line(["J=1:3", "log", "true"])


def _read_when_there(path):
    for _ in range(500):
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _seconds(command):
    """Processor time of a command: that of the clock would measure the machine's other work."""
    start = _children_seconds()
    subprocess.run(command, check=True)
    return _children_seconds() - start


def _children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
