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
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics.signal import si_sdr
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pairs, pretraining_mixtures
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.tasks.options import optim_classes
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.dynamic import mixing_options
from espnet_tse_ser.training.precision import mixed_training

_COLUMNS = ("configuration", "core_minutes", "steps", "mixtures", "si_sdri", "wrong_speaker")
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
    trainings = [_Training(*_read(text), args) for text in args.configurations]
    for training in trainings[1:]:
        training.valid = trainings[0].valid
    output, rows = Path(args.output), []
    output.mkdir(parents=True, exist_ok=True)
    while any(training.seconds < 60 * args.minutes for training in trainings):
        for training in trainings:
            if training.seconds < 60 * args.minutes:
                training.run(args.slice)
                rows.append(training.measure())
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

    def __init__(self, name, config, args):
        self.name, self.config, self.seconds, self.steps = name, config, 0.0, 0
        self.batch_size = config["batch_size"]
        options = mixing_options(PretrainingOptions, config["mixing_conf"], f"{name}: mixing_conf")
        self.options = options
        rate = config.get("sample_rate", 16000)
        pool = Pool.read(args.pool, rate)
        train = self.mixtures = pretraining_mixtures(pool, options, 0)[0]
        plain = dataclasses.replace(options, alone_share=0.0, absent_share=0.0)
        valid = pretraining_mixtures(pool, plain, 0)[1]
        self.rng, valid_rng = np.random.default_rng(1), np.random.default_rng(7)
        self.valid = [valid.example(valid_rng) for _ in range(args.valid)]
        conf = dict(config.get("model_conf") or {})
        if conf.get("speaker_loss_weight", 0) > 0:
            conf["num_speakers"] = len(train.labels)
        torch.manual_seed(0)
        self.model = build_extraction_model(config | {"model_conf": conf}, name).train()
        self.mean = copy.deepcopy(self.model).eval()
        optimizer = optim_classes[config["optim"]]
        self.optimizer = optimizer(self.model.parameters(), **config["optim_conf"])
        self.rate = config["optim_conf"]["lr"]

    @property
    def num_parameters(self):
        return sum(p.numel() for p in self.model.parameters())

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
    def measure(self):
        """A row of `_COLUMNS`."""
        gains, wrong = [], []
        for start in range(0, len(self.valid), 16):
            _, batch = pad_collate(self.valid[start : start + 16])
            names = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")
            estimates, _ = self.mean.extract(*(batch[name] for name in names))
            for estimate, mixture, target in zip(
                estimates.numpy(),
                batch["speech_mix"].numpy(),
                batch["speech_ref1"].numpy(),
                strict=True,
            ):
                found = si_sdr(target, estimate)
                gains.append(found - si_sdr(target, mixture))
                wrong.append(si_sdr(mixture - target, estimate) > found)
        return (
            self.name,
            round(self.seconds / 60, 2),
            self.steps,
            self.steps * self.batch_size,
            round(float(np.mean(gains)), 2),
            round(float(np.mean(wrong)), 3),
        )


def _write(output, rows, trainings):
    write_tsv(
        output / "curves.tsv", [dict(zip(_COLUMNS, row, strict=True)) for row in rows], _COLUMNS
    )
    last = {row[0]: row for row in rows}
    lines = [
        "| configuration | parameters | core-minutes | steps | SI-SDRi, dB | wrong speaker, % |",
        "|---|---|---|---|---|---|",
    ]
    for training in trainings:
        if training.name in last:
            _, minutes, steps, _, gain, wrong = last[training.name]
            lines.append(
                f"| {training.name} | {training.num_parameters / 1e6:.1f} M | {minutes:.0f} | "
                f"{steps} | {gain:.1f} | {100 * wrong:.0f} |"
            )
    (output / "curves.md").write_text("\n".join(lines) + "\n")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for training in trainings:
        points = [(row[1], row[4]) for row in rows if row[0] == training.name]
        axes.plot(*zip(*points, strict=True), marker="o", label=training.name) if points else None
    axes.set_xlabel("minutes of one core")
    axes.set_ylabel("SI-SDR improvement, dB (held-out speakers)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(output / "curves.png", dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(run(main))
