"""Rendering mixtures to files (stage 4) on one core, against a script in LibriMix's way.

librimix_like.py reads each source with soundfile, measures its loudness with pyloudnorm, draws
levels, cuts or pads the interferer, adds, checks for clipping and writes mixture and sources. Our
table (stage 2) has the levels already; "levels given" spares the script measuring and drawing as
well, so that both read, scale, add and write the same samples. Both are one process, timed from
start to end with their imports, and write three 16-bit files a mixture.

RAVDESS and LIBRISPEECH (environment) name corpora; otherwise the mini recipe's synthetic ones.
"""

import atexit
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from bench.measure import Case, Unequal
from bench.mini import command, mini_recipe, run
from bench.report import table
from espnet_tse_ser.files import read_tsv, write_tsv

MIXTURES = 300
SPEAKERS = 8  # of the emotional corpus
READERS = 40


def section(rounds):
    """The section of RESULTS.md."""
    return f"{describe(material())}\n\n{table(__name__, cases(), rounds)}"


def describe(root):
    """What is mixed."""
    rows = read_tsv(root / "list.tsv")
    seconds = sum(soundfile.info(row["target"]).duration for row in rows)
    speech = "RAVDESS and LibriSpeech" if _corpora() else "the mini recipe's synthetic speech"
    return f"{len(rows)} mixtures, {seconds:.0f} s in all, of {speech}."


def cases(make=None):
    """The script as it is, writing FLAC as we do, and with the levels given.

    Args:
        make: returns the directory with ``clean``, ``mix`` and ``list.tsv``; see `material`.
    """
    make = make or material
    kinds = {
        "loudness measured, WAV": ["wav"],
        "loudness measured, FLAC": ["flac"],
        "levels given, FLAC": ["flac", "--levels_given"],
    }
    return [
        Case(
            f"LibriMix-like, {name}",
            lambda: functools.partial(render, ours, make()),
            functools.partial(
                lambda options: functools.partial(render, theirs, make(), *options), o
            ),
            functools.partial(check_equal, make),
            competitor="librimix_like.py",
        )
        for name, o in kinds.items()
    ]


def ours(root, output):
    """The command of stage 4."""
    pools = ["--targets", root / "clean/emo", "--sources", root / "clean/interferer"]
    return command("simulate", "--table_dir", root / "mix", *pools, "--output_dir", output)


def theirs(root, output, *options):
    """The command of the script."""
    script = Path(__file__).parent / "librimix_like.py"
    return [sys.executable, str(script), str(root / "list.tsv"), str(output), *options]


def render(make_command, root, *options):
    """Run a command into a new directory; `Seconds` without removing it."""
    with tempfile.TemporaryDirectory(dir=root) as output:
        return run(make_command(root, Path(output), *options))[0]


def check_equal(make):
    """With the levels given, both write the same samples, but for rounding."""
    root = make()
    with tempfile.TemporaryDirectory(dir=root) as output:
        output = Path(output)
        run(ours(root, output / "ours"))
        run(theirs(root, output / "theirs", "flac", "--levels_given"))
        names = sorted(p.relative_to(output / "ours/audio") for p in output.rglob("ours/**/*.flac"))
        if not names:
            raise Unequal("nothing was rendered")
        largest = 0
        for name in names:
            a, b = (
                soundfile.read(directory / name, dtype="int16")[0].astype(int)
                for directory in (output / "ours/audio", output / "theirs")
            )
            if len(a) != len(b) or (difference := np.abs(a - b).max()) > 1:
                raise Unequal(f"{name} differs: {len(a)} and {len(b)} samples")
            largest = max(largest, int(difference))
    return f"{len(names)} files, levels given: to {largest} of 32768"


@functools.cache
def material():
    """A directory with the formatted corpora, a mixture table, and the script's list of it."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    if _corpora():
        _format_corpora(root, *_corpora())
    else:
        (root / "clean").symlink_to(mini_recipe("mixture_table") / "dump/clean")
    pools = ["--targets", root / "clean/emo", "--sources", root / "clean/interferer"]
    run(command("mixture_table", *pools, "--output_dir", root / "mix"))
    write_list(root)
    return root


def write_list(root, count=MIXTURES):
    """Cut the mixture table to ``count`` mixtures and write the script's ``list.tsv``."""
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.mixtures.table import read_mixtures, write_mixtures

    mixtures = read_mixtures(root / "mix/mixtures.tsv")[:count]
    write_mixtures(root / "mix/mixtures.tsv", mixtures)
    targets, interferers = (
        read_table(root / "clean" / name / "wav.scp") for name in ("emo", "interferer")
    )
    rows = [
        {
            "id": m.mixture,
            "target": targets[m.target],
            "interferer": interferers[m.sources[0].utt],
            "gain_target": m.gain_db,
            "gain_interferer": m.sources[0].gain_db,
            "offset": m.sources[0].offset,
        }
        for m in mixtures
    ]
    write_tsv(root / "list.tsv", rows, list(rows[0]))


def _corpora():
    """The directories of RAVDESS and LibriSpeech, or None."""
    roots = [os.environ.get(name) for name in ("RAVDESS", "LIBRISPEECH")]
    return roots if all(roots) else None


def _format_corpora(root, ravdess, librispeech):
    """Some speakers of RAVDESS, some utterances of LibriSpeech, as stage 1 formats them."""
    subsets = sorted(p.name for p in Path(librispeech).iterdir() if p.is_dir())
    source = ["--root", librispeech, "--subsets", subsets[-1], "--complete", "false"]
    run(command("prepare", "ravdess", "--root", ravdess, "--output_dir", root / "emo"))
    run(command("prepare", "librispeech", *source, "--output_dir", root / "interferer"))
    _shorten(root / "emo", SPEAKERS, None)
    _shorten(root / "interferer", READERS, 5)
    for name in ("emo", "interferer"):
        argv = ["--data_dir", root / name, "--output_dir", root / "clean" / name]
        run(command("format_audio", *argv))
        run(command("format_audio", *argv, "--combine"))


def _shorten(directory, speakers, utterances):
    """Keep so many speakers, spread over the corpus, and so many utterances of each."""
    from espnet_tse_ser.audio.kaldi_dir import invert, read_table, write_table

    utts = {s: u.split() for s, u in read_table(directory / "spk2utt").items()}
    chosen = sorted(utts)[:: max(1, len(utts) // speakers)][:speakers]
    keep = {utt for speaker in chosen for utt in utts[speaker][:utterances]}
    for name in ("wav.scp", "utt2spk", "utt2emo", "utt2fold", "segments"):
        if (directory / name).exists():
            table = read_table(directory / name)
            write_table(directory / name, {k: v for k, v in table.items() if k in keep})
    write_table(directory / "spk2utt", invert(read_table(directory / "utt2spk")))
    genders = read_table(directory / "spk2gender")
    write_table(directory / "spk2gender", {s: genders[s] for s in chosen})
