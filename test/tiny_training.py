"""A training of milliseconds with all that has a state: dropout, crops, Adam, a scheduler."""

import dataclasses
import functools
import os
import signal

import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.schedulers.warmup_lr import WarmupLR
from espnet2.tasks.abs_task import AbsTask
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from tiny_utterances import LABELS, Utterances

from espnet_tse_ser.processes import start_server
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.interruption import SIGNALS
from espnet_tse_ser.training.trainer import EmotionTrainer

FOR_WORKERS = [
    "espnet_tse_ser.bin",
    "espnet_tse_ser.training.interruption",
    "espnet2.iterators.sequence_iter_factory",
]


class Model(AbsESPnetModel):
    """A linear layer after dropout; ``at_forward(number, training)`` is called in each forward."""

    labels = LABELS

    def __init__(self, at_forward):
        super().__init__()
        self.dropout, self.linear = torch.nn.Dropout(0.5), torch.nn.Linear(6, 4)
        self.at_forward, self.forwards = at_forward, 0
        self.reset_predictions()

    def reset_predictions(self):
        self.predictions = []

    def forward(self, speech, speech_lengths, emotion, **kwargs):
        self.forwards += 1
        self.at_forward(self.forwards, self.training)
        logits, emotion = self.linear(self.dropout(speech)), emotion[:, 0]
        loss = torch.nn.functional.cross_entropy(logits, emotion)
        if not self.training:
            self.predictions += zip(emotion.tolist(), logits.argmax(1).tolist(), strict=True)
        return force_gatherable((loss, {"loss": loss.detach()}, len(logits)), loss.device)

    def collect_feats(self, **kwargs):
        return {}


def _iter_factory(seed, train, num_workers, rank):
    batches = [[str(i) for i in range(s, min(s + 4, 15))] for s in range(0, 15, 4)]
    return SequenceIterFactory(
        dataset=Utterances(seed + 2 * rank, train),
        batches=batches[rank:],
        seed=5,
        shuffle=train,
        num_workers=num_workers,
        collate_fn=pad_collate,
    )


@functools.cache
def _options(*further):
    parser = AbsTask.get_parser()
    EmotionTrainer.add_arguments(parser)
    args = parser.parse_args(
        ["--output_dir", "", "--max_epoch", "2", "--num_att_plot", "0", "--seed", "3"]
        + ["--use_matplotlib", "false", "--use_tensorboard", "false", "--resume", "true"]
        + ["--keep_nbest_models", "1", *further]
    )
    args.best_model_criterion = [("valid", "loss", "min")]
    return EmotionTrainer.build_options(args)


def _nothing(number, training):
    pass


def train(output_dir, *further, at_forward=_nothing, num_workers=0, rank=0, meeting=None):
    """Two epochs, each of 4 batches and 4 of validation; returns the number of forwards.

    With ``meeting``, a path, it is one of two processes; rank 1 has 3 batches.
    """
    if num_workers:
        start_server(FOR_WORKERS, SIGNALS)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model(at_forward)
    output_dir.mkdir(exist_ok=True)
    distributed = DistributedOption()
    if meeting is not None:
        distributed = DistributedOption(True, "gloo", f"file://{meeting}", 2, rank)
        distributed.init_torch_distributed()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    EmotionTrainer.run(
        model=model,
        optimizers=[optimizer],
        schedulers=[WarmupLR(optimizer, warmup_steps=3)],
        train_iter_factory=_iter_factory(0, True, num_workers, rank),
        valid_iter_factory=_iter_factory(1, False, num_workers, rank),
        plot_attention_iter_factory=None,
        trainer_options=dataclasses.replace(_options(*further), output_dir=output_dir),
        distributed_option=distributed,
    )
    return model.forwards


def products(directory):
    """Everything that a training leaves behind, to the bit, but for times."""
    states = {p.name: torch.load(p, weights_only=False) for p in sorted(directory.glob("*.pth"))}
    reporters = [s.pop("reporter") for n, s in states.items() if n.startswith("checkpoint")]
    tables = {p.name: p.read_text() for p in directory.glob("*.tsv")}
    torch.set_printoptions(profile="full", precision=17)
    text = repr(states)
    torch.set_printoptions(profile="default")
    return text, [r["epoch"] for r in reporters], tables


def signal_at(*numbers, signals=(signal.SIGUSR1,)):
    """Let these forwards send a signal to the process."""
    return functools.partial(_signal, numbers, signals)


def _signal(numbers, signals, number, training):
    if number in numbers:
        os.kill(os.getpid(), signals[number % len(signals)])
