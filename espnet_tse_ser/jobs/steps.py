"""Steps that are done once: what a stage of a recipe declares is done here, in its order.

``utils/steps.sh`` starts this as a process beside the recipe's script and sends it the words of
each ``step [options] DIR COMMAND [ARGUMENTS...]`` (see `step`); it answers when they are done.
What a step has done is told by marks in DIR (see `marks`): one that is done with the same settings
is skipped, unless something that it wrote is gone; then it is done again, which goes on from what
is there. One that was done, or begun, with other settings stops the script, unless ``--redo``. It
is the job itself that marks a step as done (see `step_job`), so that what is done stays done
whatever happens to this process. While a step is worked on, ``DIR/.lock[.NAME]`` says who does: a
second script refuses to.

Imports nothing outside the standard library: a stage that is done is to take no time.
"""

import os
import select
import signal
import sys
import time

from espnet_tse_ser.errors import UserError, explain
from espnet_tse_ser.jobs import locks
from espnet_tse_ser.jobs.groups import END_SECONDS, Stopped, end_rest
from espnet_tse_ser.jobs.lifetime import identity, is_gone
from espnet_tse_ser.jobs.marks import read_record
from espnet_tse_ser.jobs.runner import Runner, say
from espnet_tse_ser.jobs.step import read_steps

ANSWERS = 9  # the descriptor that the script reads from

_SCRIPT = "script "  # begins the line of a lock that says whose steps they are


def main(argv):
    """Do the steps that are declared on standard input, until its end, and return an exit status.

    A request is a number of words and these, each with a NUL after it; see `read_steps`. A line
    to `ANSWERS` says that its steps are done.

    Args:
        argv: the recipe's settings, NAME=VALUE, see `Runner`.
    """
    settings = dict(word.split("=", 1) for word in argv)
    os.set_inheritable(ANSWERS, False)
    runner = Runner(settings, identity())
    try:
        for words in _requests(runner):
            for step in read_steps(words):
                if not step.can_join(runner.batch):
                    runner.run_batch()
                if _begin(step, runner):
                    runner.run(step)
                if step["tell"]:
                    _tell(step)
            runner.run_batch()
            os.write(ANSWERS, b"done\n")
    except Stopped:
        return 130
    except BrokenPipeError:  # nobody reads what is said
        return 128 + signal.SIGPIPE
    except (UserError, OSError) as error:
        trouble = explain(error) if isinstance(error, OSError) else error
        if trouble is None:
            raise
        print(f"{os.path.basename(settings['script'])}: {trouble}", file=sys.stderr)
        return 1
    finally:
        runner.leave()
    return 0


def _requests(runner):
    """The words of each request."""
    words, rest = [], b""
    while True:
        while words and len(words) > int(words[0]):
            count = int(words.pop(0))
            yield [os.fsdecode(word) for word in words[:count]]
            del words[:count]
        while not select.select([0], [], [], 0.5)[0]:
            runner.waiter.pause(0)
        block = os.read(0, 65536)
        if not block:
            return
        *more, rest = (rest + block).split(b"\0")
        words += more


def _begin(step, runner):
    """Lock a step that is to be done and mark it as begun; whether it is."""
    record, marks = step.record(runner.settings["stages"]), step.marks
    if marks.state(record)[0] == "done":
        say(f"{step.title}: done already")
        locks.clear_stale(marks.path("lock"))
        return False
    os.makedirs(step.dir, exist_ok=True)
    path, since = marks.path("lock"), time.strftime("%Y-%m-%d %H:%M:%S")
    content = f"{runner.me}\nsince {since} by: {runner.settings['script']}\n"
    content += f"{_SCRIPT}{runner.script}\n"
    holder = locks.take(path, content, _find_holder)
    if holder is not None:
        raise UserError(
            f"{step.dir}: {holder}; wait for it or stop it. If it has ended (or its machine), "
            f"remove {path}"
        )
    runner.locks.append(path)
    state, why = marks.state(record)
    if state == "done":
        say(f"{step.title}: done by another script meanwhile")
        locks.release(runner.locks.pop())
        return False
    if state == "gone":
        say(f"{step.title}: again, as {why} is gone or empty")
    elif state == "begun":
        say(f"{step.title}: going on with what was begun")
    elif state == "other" and step["redo"]:
        say(f"{step.title}: again, as its settings or inputs changed")
    elif state == "other":
        raise UserError(
            f"{step.dir} was made with other settings ('<' what it has, '>' what is asked):\n"
            + "".join(f"    {line}\n" for line in _differences(read_record(why), record))
            + f"Remove {step.dir} to make it again, or use another tag or directory, or remove "
            f"only\n{why} to keep what is there and go on from it."
        )
    marks.begin(record)
    return True


def _find_holder(content):
    """Who has a lock with this content; None if nobody does.

    A script that was killed leaves the process that does its steps, or the jobs of that, ending:
    they save their work, which takes a while.
    """
    holder = locks.holder_of(content)
    first, *groups = content.rstrip("\n").split("\n")
    scripts = [line.removeprefix(_SCRIPT) for line in groups if line.startswith(_SCRIPT)]
    end = time.monotonic() + END_SECONDS
    while scripts and is_gone(scripts[0]) and not is_gone(holder) and time.monotonic() < end:
        time.sleep(0.1)
    if is_gone(holder):
        for line in groups:
            if line.startswith("group "):
                end_rest(int(line.split()[1]), holder.partition(" ")[2])
        return None
    host, pid, *_ = [*holder.split(), "?", "?"]
    since = groups[0] if groups else first
    return f"process {pid} on {host} is working on it ({since})"


def _tell(step):
    """Show the messages in a step's log that it is to tell."""
    import re  # takes a while

    path = f"{step.log}.combine.log" if step["nj"] else f"{step.log}.log"
    message = re.compile(rf".* (?:INFO|WARNING): ({step['tell']})\n")
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            for found in filter(None, map(message.fullmatch, stream)):
                os.write(1, os.fsencode(f"    {found[1]}\n"))


def _differences(had, asked):
    import difflib  # takes a while

    lines = difflib.unified_diff(had.split("\n"), asked.split("\n"), n=0, lineterm="")
    for line in list(lines)[2:]:  # without its head
        if line[0] in "-+":
            yield f"{'<' if line[0] == '-' else '>'} {line[1:]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
