"""The share of a training's time that it waits for data, from ESPnet's own log.

Short trainings on the mini recipe's corpus with its configurations of full size, those with TSE on
mixtures drawn afresh (on the fly): iter_time / train_time of the last epoch's training part, with
the data made in a thread of the training (num_workers 0) and by two processes, in turns. One
thread for PyTorch.
"""

import logging
import re
import shutil
import tempfile
from pathlib import Path
from statistics import median

import yaml

from bench.mini import command, mini_recipe, run
from bench.report import markdown
from espnet_tse_ser.errors import UserError

WORKERS = (0, 2)


def section(rounds):
    """The section of RESULTS.md."""
    recipe = mini_recipe()
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        commands = training_commands(recipe, output)
        noted = {}
        for number in range(rounds):
            for name, argv in commands.items():
                for workers in WORKERS:
                    target = output / name
                    shutil.rmtree(target, ignore_errors=True)
                    times = train(argv, recipe, target, workers)
                    noted.setdefault((name, workers), []).append(times)
                    logging.info("data_wait: round %d, %s, %d: %s", number, name, workers, times)
        return report(noted)


def training_commands(recipe, output, steps=40):
    """The commands of an epoch of TSE pretraining and joint training, and two of SER; see `train`.

    The joint training starts from the TSE experiment in ``output/TSE``.
    """
    fold = ["--data_dir", "dump/mix", "--split", "data/mix/splits/fold1"]
    fold += ["--labels", "ang", "hap", "neu", "sad"]
    ser = yaml.safe_load((recipe / "conf/train_ser.yaml").read_text())
    ser.pop("normalize", None)  # its statistics are not there, and cost nothing
    (output / "train_ser.yaml").write_text(yaml.safe_dump(ser))
    short = ["--scheduler", "none", "--max_epoch"]  # a schedule is as long as its training
    tse = ["--config", "conf/train_tse.yaml", "--pool", "dump/clean/pretrain", *short, "1"]
    tse += ["--mixing_conf", f"steps_per_epoch={steps}"]
    joint = ["--config", "conf/train_tse_ser.yaml", *fold, *short, "1"]
    joint += ["--targets", "dump/clean/emo", "--sources", "dump/clean/interferer"]
    joint += ["--tse_dir", output / "TSE", "--ser_config", output / "train_ser.yaml"]
    recogniser = ["--config", output / "train_ser.yaml", "--scp", "dump/mix/wav.scp", *fold]
    return {
        "TSE": command("tse_train", *tse),
        "joint": command("tse_ser_train", *joint),
        "SER": command("ser_train", *recogniser, *short, "2"),
    }


def train(argv, recipe, output_dir, workers):
    """Run a training; returns (share waited, seconds a step, CPU seconds of the whole command)."""
    argv = [*argv, "--output_dir", str(output_dir), "--num_workers", str(workers)]
    seconds, log = run(argv, recipe)
    iter_time, train_time = read_log(log)
    return iter_time / train_time, train_time, seconds.cpu


def read_log(text):
    """Mean iter_time and train_time of a step, in s, of the last epoch in a log of ESPnet's.

    >>> read_log("1epoch results: [train] iter_time=0.1, loss=3, train_time=0.4, [valid] loss=2")
    (0.1, 0.4)
    """
    results = [line for line in text.splitlines() if "epoch results: [train]" in line]
    if not results:
        raise UserError(
            "the log has no line 'epoch results: [train]'; has ESPnet's format changed?"
        )
    part = results[-1].partition("[train]")[2].partition("[valid]")[0]
    found = [re.search(rf"\b{name}=([-+.e\d]+)", part) for name in ("iter_time", "train_time")]
    return tuple(float(match[1]) for match in found)


def report(noted):
    """The table of `train`'s results by (training, workers)."""
    rows = []
    for (name, workers), results in noted.items():
        shares = [100 * share for share, _, _ in results]
        rows.append(
            {
                "training": name,
                "num_workers": str(workers),
                "waits, %": f"{median(shares):.1f} [{min(shares):.1f}, {max(shares):.1f}]",
                "s a step": f"{median(step for _, step, _ in results):.3f}",
                "CPU s of the command": f"{median(cpu for _, _, cpu in results):.1f}",
            }
        )
    return markdown(rows)
