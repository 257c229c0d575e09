"""Target-speech extraction: training steps and inference, against ESPnet's own model.

Ours is `ESPnetTSEModel` with our `TDSpeakerBeamExtractor`, theirs ESPnet's `ESPnetExtractionModel`
with its own; filterbank sizes, SI-SNR loss and weights are the same. A case names what ours does
and what theirs does: the type of the products (autocast) and torch.compile, which is nothing for
ours on a CPU. A training step is forward, backward, clipping and Adam. Sizes: "paper"
(egs2/iemocap_mix: 512 filters of 2 ms, 8 x 3 blocks, 128/512/128), mixtures and enrollments of 3 s,
batches of 2; "small" (egs2/ravdess_mix), of 2 s, batches of 8.
"""

import functools
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from bench.floors import dense_flops
from bench.measure import Case, Unequal
from bench.report import table

EGS2 = Path(__file__).parents[1] / "egs2"
FS = 16000


@dataclass(frozen=True)
class Size:
    """A network and the batches it is trained on."""

    config: str
    batch: int
    seconds: float


SIZES = {
    "paper": Size("iemocap_mix/tse_ser1/conf/train_tse.yaml", 2, 3.0),
    "small": Size("ravdess_mix/tse_ser1/conf/train_tse.yaml", 8, 2.0),
}
# Relative error of outputs and of gradients: rounding in another order, which the kinks of the
# rectifiers make larger in gradients (in float64 they agree to 1e-10).
TOLERANCES = {"float32": (1e-4, 1e-2), "bfloat16": (0.05, 0.5)}


@dataclass(frozen=True)
class How:
    """What one side does beside the arithmetic of its code."""

    dtype: str = "float32"
    compile: bool = False
    device: str = "cpu"

    def __str__(self):
        return self.dtype + ", compiled" * self.compile


SINGLE, HALF = How(), How("bfloat16")
PAIRS = ((SINGLE, SINGLE), (HALF, SINGLE), (HALF, HALF), (SINGLE, How(compile=True)))
ON_GPU = (How("bfloat16", True, "cuda"), How(device="cuda"))


def section(rounds):
    """The section of RESULTS.md."""
    return table(__name__, cases(), rounds)


def cases(sizes=SIZES, inference_seconds=4.0):
    """Training and inference of each size, each in several ways; on a GPU if there is one."""
    listed = []
    for name, size in sizes.items():
        infer = Size(size.config, 1, inference_seconds)
        for ours, theirs in PAIRS:
            how = f"ours {ours}; theirs {theirs}"
            listed.append(training_case(f"{name}, training: {how}", size, ours, theirs))
            if not theirs.compile:  # it takes minutes
                listed.append(inference_case(f"{name}, inference: {how}", infer, ours, theirs))
        if torch.cuda.is_available():
            how = "ours {}; theirs {}".format(*ON_GPU)
            listed.append(training_case(f"{name}, training on a GPU: {how}", size, *ON_GPU))
    return listed


def training_case(name, size, ours, theirs, threads=2):
    """A `Case` of one step of training."""
    on_cpu = ours.device == "cpu"
    return Case(
        name,
        functools.partial(training_step, "ours", size, ours),
        functools.partial(training_step, "theirs", size, theirs),
        functools.partial(check_equal, size, ours, theirs, training=True),
        threads=threads,
        dtype=ours.dtype,
        flops=functools.partial(flops, size, training=True) if on_cpu else None,
        memory=on_cpu and not theirs.compile,
    )


def inference_case(name, size, ours, theirs, threads=1):
    """A `Case` of the extraction of one utterance."""
    return Case(
        name,
        functools.partial(inference_step, "ours", size, ours),
        functools.partial(inference_step, "theirs", size, theirs),
        functools.partial(check_equal, size, ours, theirs, training=False),
        threads=threads,
        dtype=ours.dtype,
        flops=functools.partial(flops, size),
        audio_seconds=size.batch * size.seconds,
    )


def load_config(size):
    """The configuration of a network."""
    config = yaml.safe_load((EGS2 / size.config).read_text())
    # With random filters the SI-SNR is below its clamp, and the gradient zero.
    return config | {"model_conf": {"filterbank": "cosine"}}


def build(side, size):
    """The extraction model of one side, ``ours`` or ``theirs``, from the same seed."""
    from espnet_tse_ser.models.build_tse import build_extraction_model

    config = load_config(size)
    torch.manual_seed(0)
    ours = build_extraction_model(config)
    if side == "ours":
        return ours
    from espnet2.enh.decoder.conv_decoder import ConvDecoder
    from espnet2.enh.encoder.conv_encoder import ConvEncoder
    from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
    from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor

    encoder = ConvEncoder(**config["encoder_conf"])
    theirs = ESPnetExtractionModel(
        encoder=encoder,
        extractor=TDSpeakerBeamExtractor(encoder.output_dim, **config["extractor_conf"]),
        decoder=ConvDecoder(**config["decoder_conf"]),
        loss_wrappers=ours.loss_wrappers,
    )
    theirs.load_state_dict(ours.state_dict())
    return theirs


def batch_of(size):
    """Noise in the form of a batch, the target in the mixture.

    Without offset and of the level that ours gives to signals, as theirs takes them as they are.
    """
    from espnet_tse_ser.audio.levels import standardize

    generator = torch.Generator().manual_seed(1)
    shape = (size.batch, round(size.seconds * FS))
    lengths = torch.full((size.batch,), shape[1])
    target, other, enroll = (
        standardize(torch.randn(shape, generator=generator), lengths)[0] for _ in range(3)
    )
    return {
        "speech_mix": standardize(target + other, lengths)[0],
        "speech_mix_lengths": lengths,
        "speech_ref1": target,
        "speech_ref1_lengths": lengths,
        "enroll_ref1": enroll,
        "enroll_ref1_lengths": lengths,
    }


def extract(side, model, batch):
    """The estimate ``(B, T)``."""
    mixture, lengths = batch["speech_mix"], batch["speech_mix_lengths"]
    enroll, enroll_lengths = batch["enroll_ref1"], batch["enroll_ref1_lengths"]
    if side == "ours":
        return model.extract(mixture, lengths, enroll, enroll_lengths)[0]
    return model.forward_enhance(mixture, lengths, [enroll], [enroll_lengths])[0][0]


def training_step(side, size, how=SINGLE):
    """One side's step of training."""
    model, batch = _prepare(side, size, how)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        with _autocast(how):
            loss = model(**batch)[0]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if how.device == "cuda":
            torch.cuda.synchronize()

    return step


def inference_step(side, size, how=SINGLE):
    """One side's extraction of one utterance."""
    model, batch = _prepare(side, size, how)
    model.eval()

    @torch.no_grad()
    def step():
        with _autocast(how):
            extract(side, model, batch)

    return step


def check_equal(size, ours, theirs, training):
    """Compare estimates and, with ``training``, gradients; raise `Unequal` beyond rounding.

    Not compiled: that is for PyTorch to test.
    """
    outputs, gradients = [], []
    for side, how in (("ours", ours), ("theirs", theirs)):
        how = How(how.dtype, False, how.device)
        model, batch = _prepare(side, size, how)
        model.train(training)
        with torch.set_grad_enabled(training), _autocast(how):
            outputs.append(extract(side, model, batch).detach())
            loss = model(**batch)[0] if training else None
        if training:
            loss.backward()
            gradients.append(flat_gradient(model))
    limits = TOLERANCES["bfloat16" if "bfloat16" in (ours.dtype, theirs.dtype) else "float32"]
    text = f"outputs to {error_within(limits[0], 'estimates', *outputs):.0e}"
    if training:
        text += f", gradients to {error_within(limits[1], 'gradients', *gradients):.0e}"
    return text


def error_within(limit, name, ours, theirs):
    """The `relative_error` of what ``name`` says; raise `Unequal` beyond ``limit``."""
    error = relative_error(ours, theirs)
    if not error <= limit:
        raise Unequal(f"{name} differ by {error:.1e} of their norm, more than {limit}")
    return error


def relative_error(ours, theirs):
    """Norm of the difference over the norm."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm())


def flat_gradient(model):
    """All gradients in one vector. The last block's residual is not used: no gradient, or zeros."""
    named = sorted(model.named_parameters())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in named]
    return torch.cat([g.flatten() for g in gradients])


@functools.cache
def flops(size, training=False):
    """Of the dense layers: one forward, with ``training`` the backward too."""
    model, batch = build("theirs", size), batch_of(size)
    return dense_flops(model, lambda: extract("theirs", model, batch), training)


def _prepare(side, size, how):
    model = build(side, size).to(how.device)
    if how.compile:
        model.extractor.compile()
    return model, {name: tensor.to(how.device) for name, tensor in batch_of(size).items()}


def _autocast(how):
    if how.dtype == "float32":
        return nullcontext()
    return torch.autocast(how.device, getattr(torch, how.dtype))
