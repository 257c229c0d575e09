"""The one place that knows awkward corners of ESPnet (202511).

* Checkpoints are written in place: the trainers here make each save a rename.
* The reporter averages per-batch values, which no recall can be: `EmotionTrainer` computes WA and
  UA over the whole development set.
"""

import contextlib
import os
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path, write_tsv
from espnet_tse_ser.metrics.emotion import macro_f1, ua, wa


@contextlib.contextmanager
def _careful_saves():
    """Within the body, ``torch.save`` to a path is atomic, and a checkpoint updates epochs.tsv."""
    save = torch.save

    def careful_save(value, target, *args, **kwargs):
        if not isinstance(target, (str, os.PathLike)):
            return save(value, target, *args, **kwargs)
        with atomic_path(target) as temporary:
            save(value, temporary, *args, **kwargs)
        if isinstance(value, dict) and "reporter" in value:
            _write_epochs(Path(target).parent / "epochs.tsv", value["reporter"]["stats"])

    torch.save = careful_save
    try:
        yield
    finally:
        torch.save = save


def _write_epochs(path, stats):
    """Write the reporter's statistics, one line an epoch: ``epoch train_loss valid_ua ...``."""
    rows = [
        {"epoch": epoch}
        | {
            f"{phase}_{name}": f"{float(value):.6g}"
            for phase, values in phases.items()
            for name, value in values.items()
            if not name.endswith("_time")
            and name not in ("time", "total_count")
            and not name.startswith("gpu_")
        }
        for epoch, phases in sorted(stats.items())
    ]
    columns = sorted({name for row in rows for name in row} - {"epoch"})
    write_tsv(
        path,
        [{c: row.get(c, "nan") for c in ["epoch", *columns]} for row in rows],
        ["epoch", *columns],
    )


class ExtractionTrainer(Trainer):
    """ESPnet's trainer with atomic checkpoints and ``epochs.tsv``."""

    @classmethod
    def run(cls, **kwargs):
        with _careful_saves():
            return super().run(**kwargs)

    @staticmethod
    def resume(checkpoint, **kwargs):
        try:
            Trainer.resume(checkpoint=checkpoint, **kwargs)
        except Exception as error:  # a damaged pickle leads its reader to KeyError, IndexError, ...
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{checkpoint}: training cannot go on from it ({reason}): it is damaged or of "
                f"another configuration; remove {Path(checkpoint).parent} to train from the start"
            ) from error


class EmotionTrainer(ExtractionTrainer):
    """Also reports WA, UA and macro-F1 of the whole validation set as ``wa``, ``ua``, ``macro_f1``.

    The model offers ``labels``, ``reset_predictions()`` and, filled by its forward in evaluation
    mode, ``predictions``: a list of (reference index, hypothesis index).
    """

    @classmethod
    def validate_one_epoch(cls, *, model, reporter, distributed_option, **kwargs):
        emotion_model = getattr(model, "module", model)
        emotion_model.reset_predictions()
        super().validate_one_epoch(
            model=model, reporter=reporter, distributed_option=distributed_option, **kwargs
        )
        predictions = list(emotion_model.predictions)
        if distributed_option.distributed:
            gathered = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, predictions)
            predictions = [pair for part in gathered for pair in part]
        references, hypotheses = zip(*predictions, strict=True)
        classes = list(range(len(emotion_model.labels)))
        reporter.register(
            {
                "wa": wa(references, hypotheses, classes),
                "ua": ua(references, hypotheses, classes),
                "macro_f1": macro_f1(references, hypotheses, classes),
            }
        )
        reporter.next()
