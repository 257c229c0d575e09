"""Joint training (TSE-SER-ft): a step with our extractor, and with ESPnet's in its place.

egs2/ravdess_mix's networks on batches of eight mixtures of 3 to 4 s, padded, with enrollments of
the same lengths, on one thread; forward, backward, clipping and AdamW. All but the extractor is
the same on both sides. Equality is checked without padding, which ESPnet's extractor does not mask.
"""

import functools
from dataclasses import dataclass

import torch
import yaml

from bench.extractor import EGS2, FS, TOLERANCES, error_within, flat_gradient
from bench.measure import Case
from bench.report import table

RECIPE = EGS2 / "ravdess_mix/tse_ser1/conf"
LABELS = ("ang", "cal", "dis", "fea", "hap", "neu", "sad", "sur")


@dataclass(frozen=True)
class Batch:
    """Mixtures of ``shortest`` to ``longest`` seconds, evenly spread."""

    size: int = 8
    shortest: float = 3.0
    longest: float = 4.0


def section(rounds):
    """The section of RESULTS.md."""
    return table(__name__, cases(), rounds)


def cases(batch=Batch(), threads=1):  # noqa: B008 (frozen)
    """The one case."""
    step = functools.partial(training_step, batch)
    return [
        Case(
            f"step, batch of {batch.size}",
            functools.partial(step, "ours"),
            functools.partial(step, "theirs"),
            functools.partial(check_equal, batch),
            threads=threads,
            memory=True,
        )
    ]


def build(side):
    """The joint model, ``theirs`` with ESPnet's extractor and the same weights."""
    from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor

    from espnet_tse_ser.models.build_joint import build_joint_model

    tse = yaml.safe_load((RECIPE / "train_tse.yaml").read_text())
    tse["model_conf"] = {"filterbank": "cosine"}
    ser = yaml.safe_load((RECIPE / "train_ser.yaml").read_text()) | {"labels": LABELS}
    torch.manual_seed(0)
    model = build_joint_model({"tse": tse, "ser": ser})
    if side == "theirs":
        ours = model.tse_model.extractor
        theirs = TDSpeakerBeamExtractor(tse["encoder_conf"]["channel"], **tse["extractor_conf"])
        theirs.load_state_dict(ours.state_dict())
        model.tse_model.extractor = theirs
    return model.train()


def batch_of(batch):
    """Noise in the form of a batch; what lies beyond a length is zero."""
    generator = torch.Generator().manual_seed(1)
    samples = torch.linspace(batch.longest * FS, batch.shortest * FS, batch.size).long()
    mask = torch.arange(int(samples.max())) < samples[:, None]
    target, other, enroll = (
        0.1 * torch.randn(mask.shape, generator=generator) * mask for _ in range(3)
    )
    return {
        "speech_mix": target + other,
        "speech_mix_lengths": samples,
        "speech_ref1": target,
        "enroll_ref1": enroll,
        "enroll_ref1_lengths": samples,
        "emotion": torch.arange(batch.size)[:, None] % len(LABELS),
    }


def training_step(batch, side):
    """One side's step of training."""
    model, tensors = build(side), batch_of(batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def step():
        optimizer.zero_grad()
        model(**tensors)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def check_equal(batch):
    """Compare loss and gradients without padding; raise `Unequal` beyond rounding."""
    tensors = batch_of(Batch(batch.size, batch.shortest, batch.shortest))
    losses, gradients = [], []
    for side in ("ours", "theirs"):
        model = build(side)
        torch.manual_seed(2)  # dropout and masks
        loss = model(**tensors)[0]
        loss.backward()
        losses.append(loss.detach())
        gradients.append(flat_gradient(model))
    limits = TOLERANCES["float32"]
    first = error_within(limits[0], "losses", *losses)
    second = error_within(limits[1], "gradients", *gradients)
    return f"loss to {first:.0e}, gradients to {second:.0e}"
