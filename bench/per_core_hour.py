"""Most decibels per core-hour: what extraction learns in minutes of one core.

    python -m bench.per_core_hour --pool DIR --minutes 10 --output OUT NAME=CONFIG[,key=value]

DIR is a formatted pool (``dump/clean/pretrain`` of a recipe after stage 3), CONFIG a configuration
of TSE pretraining; ``key=value`` changes one of its values (``extractor_conf.layer=3``). Trainings
take turns of some CPU time each, so that all see the same machine. After each turn: SI-SDR
improvement and the share of wrong speakers on the same mixtures of held-out speakers (targets that
are there, and not alone), of the running mean of the weights, which makes up for the end of a
schedule. Rates are warmed up and then constant. Nothing is chosen on test: no mixture of a recipe's
test is read.

OUT gets ``curves.tsv``, ``curves.md`` and ``curves.png``.
"""

import argparse
import copy
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from espnet_tse_ser.configuration import read_configuration
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import write_text, write_tsv
from espnet_tse_ser.metrics.signal import signal_scores
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pairs, pretraining_mixtures
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.report.markdown import table
from espnet_tse_ser.report.plots import new_figure, save
from espnet_tse_ser.tasks.options import optim_classes
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.dynamic import mixing_options
from espnet_tse_ser.training.precision import mixed_training

_COLUMNS = ("configuration", "core_minutes", "steps", "mixtures", "si_sdri", "wrong_speaker")
_TITLES = (
    "configuration",
    "parameters",
    "core-minutes",
    "steps",
    "SI-SDRi, dB",
    "wrong speaker, %",
)
_WARMUP, _DECAY = 100, 0.995  # steps; of the running mean


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", required=True, help="formatted directory of the pool")
    parser.add_argument("--minutes", type=float, default=10, help="of one core, each")
    parser.add_argument("--slice", type=float, default=75, help="seconds of CPU in a turn")
    parser.add_argument("--valid", type=int, default=160, help="mixtures of held-out speakers")
    parser.add_argument("--output", required=True, help="folder for curves.tsv, .md and .png")
    parser.add_argument("configurations", nargs="+", metavar="NAME=CONFIG[,key=value...]")
    return parser


def main(argv=None):
    """Train in turns, and write the curves after each."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    torch.set_num_threads(1)
    trainings = [_Training(*_read(text), args.pool) for text in args.configurations]
    valid = trainings[0].held_out(args.valid)
    output, rows = Path(args.output), []
    output.mkdir(parents=True, exist_ok=True)
    while any(training.seconds < 60 * args.minutes for training in trainings):
        for training in trainings:
            if training.seconds < 60 * args.minutes:
                training.run(args.slice)
                rows.append(training.measure(valid))
                print(*rows[-1], sep="\t", flush=True)
                _write(output, rows, trainings)


def _read(text):
    name, equals, rest = text.partition("=")
    path, *changes = rest.split(",")
    if not equals or not all("=" in change for change in changes):
        raise UserError(f"'{text}': expected NAME=CONFIG[,key=value...]")
    config = dict(read_configuration(path))
    for key, value in (change.split("=", 1) for change in changes):
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    return name, config


class _Training:
    """One configuration in training."""

    def __init__(self, name, config, pool):
        self.name, self.config, self.seconds, self.steps = name, config, 0.0, 0
        self.batch_size = config["batch_size"]
        where = f"{name}: mixing_conf"
        self.options = mixing_options(PretrainingOptions, config["mixing_conf"], where)
        self.pool = Pool.read(pool, config.get("sample_rate", 16000))
        self.mixtures, _ = pretraining_mixtures(self.pool, self.options, 0)
        self.rng = np.random.default_rng(1)
        conf = dict(config.get("model_conf") or {})
        if conf.get("speaker_loss_weight", 0) > 0:
            conf["num_speakers"] = len(self.mixtures.labels)
        torch.manual_seed(0)
        self.model = build_extraction_model(config | {"model_conf": conf}, name).train()
        self.mean = copy.deepcopy(self.model).eval()
        optimizer = optim_classes[config["optim"]]
        self.optimizer = optimizer(self.model.parameters(), **config["optim_conf"])
        self.rate = config["optim_conf"]["lr"]

    @property
    def num_parameters(self):
        return sum(p.numel() for p in self.model.parameters())

    def held_out(self, count):
        """Examples of held-out speakers."""
        plain = dataclasses.replace(self.options, alone_share=0.0, absent_share=0.0)
        _, mixtures = pretraining_mixtures(self.pool, plain, 0)
        rng = np.random.default_rng(7)
        return [mixtures.example(rng) for _ in range(count)]

    def run(self, seconds):
        """Train for so many seconds of CPU, mixing included."""
        until = self.seconds + seconds
        with mixed_training(self.model, self.config.get("autocast", "none"), "cpu"):
            while self.seconds < until:
                begin = time.process_time()
                self._step()
                self.seconds += time.process_time() - begin

    def _step(self):
        items = [None] * self.batch_size
        if self.options.both:
            items = pairs(self.rng, self.batch_size)
        _, batch = pad_collate([self.mixtures.example(self.rng, item) for item in items])
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1, self.steps / _WARMUP)
        self.optimizer.zero_grad(set_to_none=True)
        self.model(**batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.get("grad_clip", 5.0))
        self.optimizer.step()
        weight = 1 - min(_DECAY, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, value in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, weight)

    @torch.no_grad()
    def measure(self, valid):
        """A row of `_COLUMNS`, of what `held_out` returned."""
        scores = []
        for start in range(0, len(valid), 16):
            _, batch = pad_collate(valid[start : start + 16])
            names = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")
            estimates, _ = self.mean.extract(*(batch[name] for name in names))
            signals = batch["speech_ref1"], estimates, batch["speech_mix"]
            for target, estimate, mixture in zip(*(s.numpy() for s in signals), strict=True):
                others = [mixture - target]
                rate = self.pool.fs
                scores.append(signal_scores(target, estimate, mixture, others, rate, False))
        gain, wrong = (
            np.mean([float(score[key]) for score in scores]) for key in ("si_sdri", "wrong_speaker")
        )
        minutes, mixtures = round(self.seconds / 60, 2), self.steps * self.batch_size
        return self.name, minutes, self.steps, mixtures, round(gain, 2), round(wrong, 3)


def _write(output, rows, trainings):
    found = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    write_tsv(output / "curves.tsv", found, _COLUMNS)
    last = {row["configuration"]: row for row in found}
    lines = [
        (
            training.name,
            f"{training.num_parameters / 1e6:.1f} M",
            f"{row['core_minutes']:.0f}",
            row["steps"],
            f"{row['si_sdri']:.1f}",
            f"{100 * row['wrong_speaker']:.0f}",
        )
        for training in trainings
        if (row := last.get(training.name))
    ]
    write_text(output / "curves.md", table(_TITLES, lines) + "\n")
    figure, axes = new_figure(6, 4)
    for name in last:
        own = [row for row in found if row["configuration"] == name]
        points = ([row[key] for row in own] for key in ("core_minutes", "si_sdri"))
        axes.plot(*points, marker="o", label=name)
    axes.set_xlabel("minutes of one core")
    axes.set_ylabel("SI-SDR improvement, dB (held-out speakers)")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, output / "curves.png")


if __name__ == "__main__":
    sys.exit(run(main))
