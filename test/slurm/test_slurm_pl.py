"""utils/slurm.pl on a real cluster: what it submits, what it waits for, what it says."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from espnet_tse_ser.jobs.slurm_fate import judge

TEMPLATE = Path(__file__).parents[2] / "egs2/TEMPLATE/common"
SLURM_PL = TEMPLATE / "utils/slurm.pl"


@pytest.fixture
def place(tmp_path):
    """A recipe's directory: conf/slurm.conf and nothing else."""
    (tmp_path / "conf").mkdir()
    shutil.copy(TEMPLATE / "conf/slurm.conf", tmp_path / "conf")
    return tmp_path


@pytest.fixture
def shims(tmp_path_factory):
    """shims[client] = bash text: what is called in place of a client of Slurm, `{real}`."""
    return Shims(tmp_path_factory.mktemp("bin"))


class Shims:
    def __init__(self, directory):
        self.directory = directory

    def __setitem__(self, client, text):
        text = text.replace("{real}", shutil.which(client))
        path = self.directory / client
        path.write_text("#!/usr/bin/env bash\n" + text.replace("{directory}", str(self.directory)))
        path.chmod(0o755)


def start(cluster, place, *words, path=None):
    environment = cluster.environment | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})
    return subprocess.Popen(
        [sys.executable, SLURM_PL, *map(str, words)],
        cwd=place,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(cluster, place, *words, timeout=90, **options):
    process = start(cluster, place, *words, **options)
    _, errors = process.communicate(timeout=timeout)
    assert "Traceback" not in errors
    return process.returncode, errors


def body(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def running(cluster, count):
    """Wait until so many tasks run."""
    cluster.wait_until(lambda: sum(j.endswith("RUNNING") for j in cluster.jobs()) == count)


def test_an_array_of_jobs(idle, place):
    code, errors = run(
        idle, place, "--num-threads", "1", "JOB=2:4", "log/x.JOB.log", "echo", "aJOB"
    )
    assert (code, errors) == (0, "")
    assert sorted(p.name for p in (place / "log").iterdir()) == [f"x.{n}.log" for n in (2, 3, 4)]
    lines = (place / "log/x.3.log").read_text().splitlines()
    assert re.fullmatch(r"# Running on \S+, Slurm job \d+ task 3", lines[0])
    assert lines[1].startswith("# Started at ")
    assert lines[2:4] == ["# echo a3", "a3"]
    assert re.fullmatch(r"# Accounting: begin_time=\d+ end_time=\d+ time=\d+ threads=1", lines[4])
    assert re.fullmatch(r"# Finished at .* with status 0", lines[5])


def test_one_job_reads_path_sh_in_the_directory(idle, place):
    (place / "path.sh").write_text("export GREETING='hello there'\n")
    code, _ = run(idle, place, "log/x.log", "echo", "$GREETING", "|", "tr", "a-z", "A-Z;", "pwd")
    assert code == 0
    assert body(place / "log/x.log") == ["HELLO THERE", str(place)]


def test_quoting_is_that_of_run_pl(idle, place):
    words = ["printf", r"%s\\n", "two words", 'say "hi JOB"', 'it\'s "here now"', "", "$HOME"]
    assert run(idle, place, "JOB=7", "x.log", *words)[0] == 0
    home = os.environ["HOME"]
    assert body(place / "x.log") == ["two words", 'say "hi 7"', 'it\'s "here now"', "", home]


def test_failures_are_named_with_the_end_of_the_first_log(idle, place):
    command = "echo line of JOB; test JOB != 2 || kill -9 $$; test JOB -lt 3".split()
    code, errors = run(idle, place, "JOB=1:4", "log/x.JOB.log", *command)
    assert code == 1
    assert "slurm.pl: 3 / 4 failed, log is in log/x.*.log" in errors
    assert "exit status 137 (killed by SIGKILL): 2; exit status 1: 3-4" in errors
    assert "line of 2" in errors and "line of 1" not in errors
    assert not (place / "log/q").exists()


def test_a_limit_on_tasks_at_a_time(idle, place):
    (place / "job.sh").write_text(
        "touch run.$1; beside=(run.*); echo ${#beside[@]}; sleep 0.3; rm run.$1"
    )
    words = ["--max-jobs-run", "1", "JOB=1:5", "JOB.log", "bash", "job.sh", "JOB"]
    assert run(idle, place, *words)[0] == 0
    assert [body(place / f"{n}.log") for n in range(1, 6)] == [["1"]] * 5


def test_options_reach_sbatch_through_slurm_conf(idle, place):
    words = ["--num-threads", "2", "--name", "my_name", "--time", "0:05:00", "--mem", "0"]
    words += ["x.log", *"echo $SLURM_CPUS_PER_TASK $SLURM_JOB_NAME; squeue -h -o %l".split()]
    assert run(idle, place, *words)[0] == 0
    assert body(place / "x.log") == ["2 my_name", "5:00"]


def test_a_task_that_is_cancelled(idle, place):
    process = start(idle, place, "--retries", "2", "JOB=1:2", "JOB.log", "sleep", "JOB0")
    running(idle, 2)
    job = next(j for j in idle.jobs("%F_%K") if j.endswith("_2"))
    idle.call("scancel", job)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "1 / 2 failed" in errors and "(cancelled: 2)" in errors


def test_a_job_that_saves_when_it_is_warned_goes_on(idle, place):
    (place / "job.py").write_text(
        "import signal, sys, time, pathlib\n"
        "if pathlib.Path('saved').exists():\n    print('goes on'); sys.exit()\n"
        "def save(number, frame):\n    pathlib.Path('saved').touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "print('starts', flush=True)\ntime.sleep(100)\n"
    )
    process = start(idle, place, "x.log", sys.executable, "job.py")
    idle.wait_until(lambda: (place / "x.log").exists() and body(place / "x.log") == ["starts"])
    time.sleep(0.5)
    # what Slurm sends before a time limit (--signal=B:USR1@120), without waiting for it
    idle.call("scancel", "--batch", "--signal=USR1", idle.jobs("%i")[0])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped by Slurm, its work is saved; submitting it again" in errors
    assert body(place / "x.log") == ["starts", "goes on"]


def test_75_without_a_warning_is_a_failure(idle, place):
    code, errors = run(idle, place, "x.log", "exit", "75")
    assert code == 1
    assert "(exit status 75)" in errors


def test_a_task_that_is_cancelled_while_it_starts(idle, place):
    (place / "path.sh").write_text("touch started; sleep 10\n")
    process = start(idle, place, "x.log", "true")
    idle.wait_until((place / "started").exists)
    idle.call("scancel", idle.jobs("%i")[0])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "(cancelled)" in errors


def test_the_name_of_the_index_in_the_path_of_the_directory(idle, place):
    inner = place / "aJOBb"
    shutil.copytree(place / "conf", inner / "conf")
    assert run(idle, inner, "JOB=1:2", "log/JOB.log", "echo", "JOB")[0] == 0
    assert [body(inner / f"log/{n}.log") for n in (1, 2)] == [["1"], ["2"]]


def test_a_job_submitted_from_a_task_of_an_array(idle, place):
    idle.environment["SLURM_ARRAY_TASK_ID"] = "7"
    try:
        assert run(idle, place, "x.log", "echo", "hello")[0] == 0
    finally:
        del idle.environment["SLURM_ARRAY_TASK_ID"]


def test_slurms_warning_ends_nothing_that_does_not_listen(idle, place):
    process = start(idle, place, "x.log", "sleep", "4;", "echo", "done")
    running(idle, 1)
    time.sleep(1)
    idle.call("scancel", "--batch", "--signal=USR1", idle.jobs("%i")[0])
    assert process.wait(60) == 0
    assert body(place / "x.log") == ["done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_what_was_submitted(number, idle, place):
    process = start(idle, place, "JOB=1:9", "JOB.log", "sleep", "100")
    running(idle, 2 * os.cpu_count())
    os.killpg(process.pid, number)  # as Ctrl-C does: the wrapper and its children
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted" in errors
    assert not idle.jobs()
    assert sorted(p.name for p in place.iterdir() if p.suffix != ".log") == ["conf"]


def test_a_wrapper_that_is_killed_leaves_no_job(idle, place):
    process = start(idle, place, "JOB=1:3", "JOB.log", "sleep", "100")
    running(idle, 3)
    os.killpg(process.pid, signal.SIGKILL)
    idle.wait_until(lambda: not idle.jobs(), 30)


def test_a_submission_whose_answer_is_lost_is_not_made_twice(idle, place, shims):
    shims["sbatch"] = """
        echo call >>{directory}/calls
        case $(wc -l <{directory}/calls) in
            1) echo "sbatch: error: Unable to contact slurm controller" >&2; exit 1 ;;
            2) {real} "$@" >/dev/null
               echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1 ;;
        esac
        exec {real} "$@"
    """
    (place / "job.sh").write_text("echo run >>runs")
    code, errors = run(idle, place, "x.log", "bash", "job.sh", path=shims.directory)
    assert code == 0, errors
    assert "Unable to contact slurm controller" in errors and "asking again in 2 s" in errors
    assert "Socket timed out" in errors and "Slurm answers again" in errors
    assert (place / "runs").read_text() == "run\n"


def test_accounting_tells_what_slurm_has_forgotten(idle, place, shims):
    shims["squeue"] = """
        [ -f {directory}/lost ] || exec {real} "$@"
        echo "slurm_load_jobs error: Invalid job id specified" >&2
        exit 1
    """
    shims["sacct"] = 'echo "$@" >{directory}/asked; echo "${5#--jobs=}|OUT_OF_MEMORY"'
    process = start(idle, place, "x.log", "sleep", "100", path=shims.directory)
    running(idle, 1)
    pattern = f"{idle.directory}/spool.*/slurm_script"
    find = ["pgrep", "-f", pattern]  # Slurm calls a job running before its script is
    scripts = idle.wait_until(lambda: subprocess.run(find, stdout=subprocess.PIPE).stdout.split())
    (shims.directory / "lost").touch()
    for pid in scripts:
        os.kill(int(pid), signal.SIGKILL)  # before it can leave its status
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "(out of memory)" in errors
    assert "--format=JobID,State" in (shims.directory / "asked").read_text()
    idle.wait_until(lambda: not idle.jobs())


def test_polling_asks_seldom_and_for_all_at_once(idle, place, shims):
    shims["squeue"] = 'date +%s.%N >>{directory}/calls; exec {real} "$@"'
    words = ["--max-jobs-run", "1", "JOB=1:100", "JOB.log", "sleep", "100"]
    process = start(idle, place, *words, path=shims.directory)
    running(idle, 1)
    (shims.directory / "calls").write_text("")
    time.sleep(17)
    asked = [float(line) for line in (shims.directory / "calls").read_text().split()]
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert 3 <= len(asked) <= 5
    assert min(b - a for a, b in zip(asked, asked[1:], strict=False)) > 3.5


@pytest.mark.parametrize(
    "words, message",
    [
        (["JOB=0:5", "JOB.log", "true"], "job numbers start at 1"),
        (["JOB=1:101", "JOB.log", "true"], r"up to 100 \(MaxArraySize\).*nothing was submitted"),
        (["--frobnicate", "1", "x.log", "true"], r"--frobnicate 1 is not known to conf/slurm.conf"),
        (["--name", "a", "--partition", "b", "x.log", "true"], r"add a line 'option partition=\*"),
        (["--gpu", "1", "x.log", "true"], r"sbatch: .*(GRES|gres).*nothing was submitted"),
        (["--config", "absent.conf", "x.log", "true"], "absent.conf: cannot be read"),
        (["--retries", "x", "x.log", "true"], "--retries x: expected a number"),
    ],
)
def test_wrong_command_lines(words, message, idle, place):
    code, errors = run(idle, place, *words)
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert re.search(message, errors)
    assert not idle.jobs()
    assert [p.name for p in place.iterdir()] == ["conf"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("commands sbatch", r"conf/slurm.conf:9: expected 'command', 'option"),
        ("option mem --mem", r"conf/slurm.conf:9: expected 'option NAME=VALUE'"),
        ("default gpu=0 --x", r"conf/slurm.conf:9: expected 'default NAME=VALUE'"),
        ("command sbatch", r"conf/slurm.conf:9: a second 'command' line"),
        ("option mem=* '--mem", r"conf/slurm.conf:9: No closing quotation"),
    ],
)
def test_wrong_lines_of_slurm_conf(line, message, cluster, place):
    good = [
        "# comment",
        "command sbatch --export=ALL # more",
        "",
        "option gpu=0",
        "option gpu=* -G $0",
    ]
    good += ["default gpu=0", "option name=* --job-name=$0", "option x=*"]
    (place / "conf/slurm.conf").write_text("\n".join([*good, line]))
    code, errors = run(cluster, place, "x.log", "true")
    assert code == 1
    assert re.search(message, errors)
    assert not (place / "x.log").exists()


def test_a_partition_that_does_not_exist(idle, place):
    (place / "conf/slurm.conf").write_text("command sbatch --partition=nowhere\n")
    code, errors = run(idle, place, "x.log", "true")
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "invalid partition specified: nowhere" in errors and "--partition=nowhere" in errors


def test_without_slurm(place):
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    result = subprocess.run(
        [sys.executable, SLURM_PL, "x.log", "true"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("slurm.pl: sbatch is not installed here: submit from a login")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "status, state, fate",
    [
        (0, "COMPLETED", "done"),
        (0, "NODE_FAIL", "done"),
        (0, None, "done"),
        (1, "FAILED", "failed"),
        (1, None, "failed"),
        (143, "CANCELLED", "failed"),
        (143, "PREEMPTED", "lost"),
        ("saved", "TIMEOUT", "saved"),
        ("saved", "FAILED", "saved"),
        ("saved", "PREEMPTED", "saved"),
        ("saved", None, "saved"),
        ("saved", "CANCELLED", "failed"),
        (75, "FAILED", "failed"),
        (170, "FAILED", "failed"),
        (None, "NODE_FAIL", "lost"),
        (None, "BOOT_FAIL", "lost"),
        (None, "OUT_OF_MEMORY", "failed"),
        (None, "TIMEOUT", "failed"),
        (None, "FAILED", "failed"),
        (None, "COMPLETED", "failed"),
        (None, None, "lost"),
    ],
)
def test_judgement(status, state, fate):
    result, reason = judge(status, state)
    assert result == fate
    assert bool(reason) == (fate != "done")


# What takes Slurm its time runs on clusters of its own, beside the tests above.


def scenario(name):
    return SCENARIOS.setdefault(name.__name__, name)


SCENARIOS = {}


@pytest.fixture(scope="module", autouse=True)
def slow(cluster, tmp_path_factory):
    """The scenarios, {name: future}."""

    def play(scenario):
        own = type(cluster)(tmp_path_factory.mktemp("slurm"))
        place = tmp_path_factory.mktemp("recipe")
        (place / "conf").mkdir()
        shutil.copy(TEMPLATE / "conf/slurm.conf", place / "conf")
        try:
            own.control("start")
            return scenario(own, place)
        finally:
            own.control("stop")

    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(play, scenario) for name, scenario in SCENARIOS.items()}


@scenario
def node_dies(cluster, place):
    # Tasks 1 are on one node and 2 on the other. Of b, task 2 fails by itself.
    (place / "b.sh").write_text(
        "echo run >>runs.$1; [ $1 = 1 ] || exit 3; [ $(wc -l <runs.1) = 2 ] || sleep 300; echo done"
    )
    a = start(cluster, place, "JOB=1:2", "a.JOB.log", *"sleep 50; echo done".split())
    running(cluster, 2)
    words = ["--retries", "1", "JOB=1:2", "b.JOB.log", "bash", "b.sh", "JOB"]
    b = start(cluster, place, *words)
    cluster.wait_until((place / "runs.1").exists)
    where = {tuple(j.split()[:2]): j.split()[2] for j in cluster.jobs("%F %K %N")}
    node = where[max(job for job, _ in where), "1"]
    lost_of_a = next(int(task) for (job, task), n in where.items() if job != "2" and n == node)
    cluster.control("kill_node", node)
    cluster.wait_until(lambda: "NODE_FAIL" in _all_jobs(cluster))
    said_by_slurm = time.monotonic()
    line = a.stderr.readline()
    seconds = time.monotonic() - said_by_slurm
    _, errors_a = a.communicate(timeout=120)
    _, errors_b = b.communicate(timeout=120)
    return seconds, lost_of_a, line + errors_a, errors_b, (a.returncode, b.returncode), place


def _all_jobs(cluster):
    return cluster.call("squeue", "--noheader", "--states=all", "--format=%i %T")


def test_a_node_that_dies(slow):
    seconds, lost, errors, _, codes, place = slow["node_dies"].result()
    assert seconds < 60
    assert errors.startswith(f"slurm.pl: task {lost}: node failure, log is in a.{lost}.log\n")
    assert codes[0] == 1
    assert f"1 / 2 failed, log is in a.*.log (node failure: {lost})" in errors
    assert body(place / f"a.{3 - lost}.log") == ["done"]


def test_retries_are_for_what_the_cluster_lost(slow):
    _, _, _, errors, codes, place = slow["node_dies"].result()
    assert codes[1] == 1
    assert "task 1: node failure; submitting it again (retry 1 of 1)" in errors
    assert "1 / 2 failed" in errors and "(exit status 3: 2)" in errors
    assert (place / "runs.1").read_text() == "run\nrun\n"
    assert (place / "runs.2").read_text() == "run\n"
    assert "done" in body(place / "b.1.log")


@scenario
def time_limit(cluster, place):
    # Slurm looks after limits every half minute or so.
    return run(cluster, place, "--time", "0:01", "x.log", "sleep", "300", timeout=200)


def test_the_time_limit(slow):
    code, errors = slow["time_limit"].result()
    assert code == 1
    assert "(time limit reached)" in errors


@scenario
def controller_away(cluster, place):
    cluster.control("kill_controller")
    process = start(cluster, place, "JOB=1:2", "JOB.log", *"sleep 8; echo JOB".split())
    time.sleep(5)
    assert process.poll() is None
    cluster.control("start_controller")
    running(cluster, 2)
    cluster.control("kill_controller")
    time.sleep(20)
    cluster.control("start_controller")
    _, errors = process.communicate(timeout=120)
    # It has ended when its tasks had; what they have left of Slurm goes soon.
    cluster.wait_until(lambda: not cluster.jobs())
    return process.returncode, errors, place


def test_a_controller_that_is_away_costs_nothing(slow):
    code, errors, place = slow["controller_away"].result()
    assert code == 0, errors
    assert [body(place / f"{n}.log") for n in (1, 2)] == [["1"], ["2"]]
