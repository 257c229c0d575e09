"""How long commands take before they do any work, against importing ESPnet's TSE task.

``--help`` of every command; commands that do not train, from start to end on one utterance with the
mini recipe's networks of debug size, which take next to nothing; trainings until their first data
loader is asked for a batch. In turns: every command, then ``python -c "import
espnet2.tasks.enh_tse"``, which ESPnet's own TSE training and inference begin with.
"""

import logging
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.measure import Times
from bench.mini import ROOT, command, mini_recipe, run
from bench.report import markdown

THEIRS = [sys.executable, "-c", "import espnet2.tasks.enh_tse"]


def section(rounds):
    """The section of RESULTS.md."""
    recipe = mini_recipe()
    with tempfile.TemporaryDirectory() as output:
        commands = help_commands() | work_commands(recipe, Path(output))
        return report(measure(commands, recipe, Path(output), rounds))


def help_commands():
    """Name -> command of every command's help."""
    names = sorted(p.stem for p in (ROOT / "espnet_tse_ser/bin").glob("[a-z]*.py"))
    return {f"{name} --help": command(name, "--help") for name in names}


def work_commands(recipe, output):
    """Name -> command that does the least there is to do; it runs in ``recipe``."""
    utt = (recipe / "data/mix/splits/fold1/test.lst").read_text().split()[0]
    (output / "one.lst").write_text(f"{utt}\n")
    joint, ser, tse = "exp/tse_ser_ft_debug/fold1", "exp/ser_noisy_debug/fold1", "exp/tse_debug"
    new, one = output / "new", ["--nj", 100000, "--job", 1]  # the first utterance only
    clean = ["--targets", "dump/clean/emo", "--sources", "dump/clean/interferer"]
    split = ["--data_dir", "dump/mix", "--split", "data/mix/splits/fold1"]
    wav = f"dump/mix/audio/mix/{utt}.flac"
    scp = ["--scp", "dump/mix/wav.scp"]
    run = {
        "infer": ["--model_dir", joint, "--mixture", wav, "--enrollment", wav],
        "recognize": ["--model_dir", ser, "--data_dir", "dump/mix", *scp]
        + ["--ids", output / "one.lst", "--output", new / "hyp.tsv"],
        "extract": ["--model_dir", tse, "--data_dir", "dump/mix", "--output_dir", new, *one],
        "simulate": ["--table_dir", "data/mix", *clean, "--output_dir", new, *one],
        "format_audio": ["--data_dir", "data/emo", "--output_dir", new, *one],
    }
    stats = "exp/ser_stats_debug/noisy/fold1/feats_stats.npz"
    train = {
        "tse_train": ["--config", "conf/train_tse_debug.yaml", "--pool", "dump/clean/pretrain"],
        "ser_train": ["--config", "conf/train_ser_debug.yaml", *scp, *split, "--stats", stats]
        + ["--labels", "ang", "hap", "neu", "sad"],
        "tse_ser_train": ["--config", "conf/train_tse_ser_debug.yaml", *split, *clean]
        + ["--tse_dir", tse, "--ser_dir", ser],
    }
    commands = {f"{name}, one utterance": command(name, *run[name]) for name in run}
    for name, options in train.items():
        until = [sys.executable, "-m", "bench.until_data", f"espnet_tse_ser.bin.{name}"]
        commands[f"{name}, until data"] = [*until, *map(str, options), "--output_dir", str(new)]
    return commands


def measure(commands, recipe, output, rounds):
    """Name -> list of `Seconds`; the name of theirs is None. The first round does not count."""
    noted = {name: [] for name in (*commands, None)}
    for number in range(rounds + 1):
        logging.info("startup: round %d of %d (0 warms up)", number, rounds)
        for name, argv in [*commands.items(), (None, THEIRS)]:
            shutil.rmtree(output / "new", ignore_errors=True)
            seconds, _ = run(argv, recipe)
            if number > 0:
                noted[name].append(seconds)
    return noted


def report(noted):
    """The table of `measure`'s seconds."""
    theirs = noted[None]
    rows = []
    for name, ours in noted.items():
        row = {"command": name or "import espnet2.tasks.enh_tse"}
        for unit in ("clock", "cpu"):
            row[f"{unit}, s"] = f"{median(getattr(s, unit) for s in ours):.2f}"
        for unit in ("clock", "cpu") if name else ():
            ratios = Times(ours, theirs).ratios(unit)
            row[f"ESPnet's import / ours, {unit}"] = "{:.1f} [{:.1f}, {:.1f}]".format(*ratios)
        rows.append(row)
    return markdown(rows)
