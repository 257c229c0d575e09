"""What keeping frozen SSL features saves: epochs of ShiftCNN on HuBERT Base, with and without.

    python bench/ssl_cache.py [--audio DIRECTORY] [--utterances 64] [--rounds 3] [--dtype float32]

Trains with bin/ser_train.py on files of a directory (FLAC or WAV, at most 4 s of each, resampled),
or on noise, alternately from audio and from features. An epoch is a pass over the utterances, the
validation on eight of them, and writing checkpoints with HuBERT in them. HuBERT has random weights,
as nothing is downloaded: its time is that of the trained one. Prints medians, on OMP_NUM_THREADS
threads. What remains of a pass is the arithmetic of ShiftCNN, forwards and backwards, about a sixth
of what HuBERT and ShiftCNN take together: this bounds what any cache can save where both run
at the same rate.
"""

import argparse
import contextlib
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from espnet_tse_ser.audio.kaldi_dir import write_table
from espnet_tse_ser.audio.reading import read_audio, to_mono, write_audio
from espnet_tse_ser.bin import ser_features, ser_train
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend
from espnet_tse_ser.training.trainer import EmotionTrainer

FS, LABELS = 16000, ["ang", "hap", "neu", "sad"]
CONFIG = {  # of egs2/iemocap_mix, without random crops and masks, to compare the losses
    "frontend": "ssl",
    "encoder": "shift_cnn",
    "encoder_conf": {"ndiv": 16},
    "batch_type": "unsorted",
    "batch_size": 16,
    "max_epoch": 1,
    "optim": "adamw",
    "optim_conf": {"lr": 5e-4},
}


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", help="directory with recordings, at any depth")
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    return parser


def main():
    args = get_parser().parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        _measure(args, Path(directory))


def _measure(args, root):
    length = _write_data(args, root)
    torch.manual_seed(0)
    torch.save(SSLFrontend("HUBERT_BASE", weights=None).ssl.state_dict(), root / "ssl.pt")
    conf = {"arch": "HUBERT_BASE", "weights": str(root / "ssl.pt")}
    (root / "train_ser.yaml").write_text(yaml.safe_dump(CONFIG | {"frontend_conf": conf}))
    common = ["--config", f"{root}/train_ser.yaml", "--scp", f"{root}/wav.scp"]
    options = [*common, "--output_dir", f"{root}/feats", "--dtype", args.dtype]
    noted = []
    with _noted(noted):
        ser_features.main(options)
    ser_features.main([*options, "--combine"])
    size = sum(path.stat().st_size for path in root.glob("feats/shards/*/*.ark"))
    print(
        f"{args.utterances} utterances, {length:.0f} s: {size / 1e6:.1f} MB in {args.dtype}, in "
        f"{_text(noted[0])} with building HuBERT, real-time factor {noted[0][0] / length:.3f} "
        f"({noted[0][1] / length:.3f})",
        flush=True,
    )

    measured = {(name, kind): [] for name in ("pass", "epoch") for kind in ("audio", "features")}
    for number in range(args.rounds):
        for kind, further in (("audio", []), ("features", ["--feats", f"{root}/feats"])):
            output = root / f"exp_{kind}_{number}"
            command = [*common, "--data_dir", str(root), "--split", str(root), *further]
            with _trainer_noted(measured["epoch", kind], measured["pass", kind]):
                ser_train.main([*command, "--output_dir", str(output)])
            for checkpoint in output.glob("*.pth"):
                checkpoint.unlink()
            loss = read_tsv(output / "epochs.tsv")[0]["train_loss"]
            text = ", ".join(f"{n} {_text(measured[n, kind][-1])}" for n in ("pass", "epoch"))
            print(f"  round {number + 1}, {kind}: {text}, training loss {loss}", flush=True)
    print(f"Medians of {args.rounds} rounds, {torch.get_num_threads()} thread(s):")
    for name in ("pass", "epoch"):
        clock, cpu = (
            [
                statistics.median(n[i] for n in measured[name, kind])
                for kind in ("audio", "features")
            ]
            for i in (0, 1)
        )
        print(
            f"  {name:5}  from audio {_text((clock[0], cpu[0]))}, from features "
            f"{_text((clock[1], cpu[1]))}: {clock[0] / clock[1]:.1f} ({cpu[0] / cpu[1]:.1f}) times"
        )


def _text(noted):
    return f"{noted[0]:.2f} s ({noted[1]:.2f} s of CPU)"


@contextlib.contextmanager
def _noted(noted):
    """Append what the body took: seconds of the clock, and of CPU, for a machine that is shared."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    noted.append((time.perf_counter() - clock, time.process_time() - cpu))


@contextlib.contextmanager
def _trainer_noted(epochs, passes):
    """Note what ESPnet's trainer takes for one epoch, and for its pass over the training data."""
    methods = {"run": epochs, "train_one_epoch": passes}
    originals = {name: getattr(EmotionTrainer, name).__func__ for name in methods}

    def noting(function, noted):
        def call(cls, **keywords):
            with _noted(noted):
                return function(cls, **keywords)

        return classmethod(call)

    for name, noted in methods.items():
        setattr(EmotionTrainer, name, noting(originals[name], noted))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(EmotionTrainer, name, classmethod(function))


def _write_data(args, root):
    """Write audio, labels and lists; returns its seconds."""
    wavs, lengths, rng = {}, {}, np.random.default_rng(0)
    if args.audio:
        found = sorted(p for p in Path(args.audio).rglob("*") if p.suffix in (".flac", ".wav"))
        found = [found[i] for i in rng.permutation(len(found))[: args.utterances]]
        signals = (to_mono(*read_audio(path), FS)[: 4 * FS] for path in found)
    else:
        lengths_drawn = rng.integers(2 * FS, 4 * FS, args.utterances)
        signals = (0.1 * rng.standard_normal(n).clip(-5, 5) for n in lengths_drawn)
    for number, signal in enumerate(signals):
        utt = f"u{number:04d}"
        wavs[utt], lengths[utt] = root / f"{utt}.flac", len(signal)
        write_audio(wavs[utt], signal, FS)
    write_table(root / "wav.scp", wavs)
    write_table(root / "utt2num_samples", lengths)
    write_table(root / "utt2emo", {utt: LABELS[i % 4] for i, utt in enumerate(wavs)})
    for name, ids in (("train", list(wavs)), ("dev", list(wavs)[:8])):
        (root / f"{name}.lst").write_text("".join(f"{utt}\n" for utt in ids))
    return sum(lengths.values()) / FS


if __name__ == "__main__":
    main()
