"""Formatted corpora of seconds of noise that is modulated like speech, and how to spoil them."""

from types import SimpleNamespace

import numpy as np
import pyloudnorm
import soundfile
from tiny_formatted import write_formatted_tables

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table

FS = 16000
EMOTIONS = ("ang", "hap", "neu", "neu", "sad")
FOLDS = ("1", "2", "3")


def speech(rng, num_samples, depth=0.5):
    """Noise of low pass character, modulated at 3 Hz: ``(num_samples,)``, peak 0.5."""
    noise = np.convolve(rng.standard_normal(num_samples), np.ones(4) / 4, "same")
    time = np.arange(num_samples) / FS
    noise *= 1 + depth * np.sin(2 * np.pi * (3 * time + rng.random()))
    return 0.5 * noise / np.abs(noise).max()


def loudness(samples, fs=FS):
    """Integrated loudness in LUFS."""
    return float(pyloudnorm.Meter(fs).integrated_loudness(np.asarray(samples, np.float64)))


def write_pool(directory, utterances):
    """Write a formatted directory; its audio lies beside it, so that a copy refers to it.

    Args:
        utterances: list of (utt, speaker, gender, samples, emotion or None, fold or None).
    """
    rows = []
    audio = directory.parent / f"{directory.name}_audio"
    audio.mkdir(parents=True)
    for utt, speaker, gender, samples, emotion, fold in utterances:
        path = audio / f"{utt}.wav"
        soundfile.write(path, samples, FS, subtype="PCM_16")
        rows.append((utt, path, speaker, gender, len(samples), loudness(samples), emotion, fold))
    return write_formatted_tables(directory, rows)


def write_corpora(root):
    """Targets (3 folds of a man and a woman, 5 utterances each), interferers and pretraining.

    Returns:
        namespace with the directories ``emo``, ``interferer`` and ``pretrain``.
    """
    rng = np.random.default_rng(0)

    def utterance(speaker, number, gender, depth, emotion=None, fold=None):
        samples = speech(rng, int(rng.integers(9600, 17600)), depth)
        return f"{speaker}-{number}", speaker, gender, samples, emotion, fold

    targets = [
        utterance(f"t{fold}{gender}", number, gender, 0.5, emotion, fold)
        for fold in FOLDS
        for gender in "mf"
        for number, emotion in enumerate(EMOTIONS)
    ]
    interferers = [
        utterance(f"i{gender}{speaker}", number, gender, 0.0)
        for gender in "mf"
        for speaker in range(6)
        for number in range(2)
    ]
    pretrain = [
        utterance(f"p{gender}{speaker}", number, gender, 0.5)
        for gender in "mf"
        for speaker in range(3)
        for number in range(2)
    ]
    return SimpleNamespace(
        emo=write_pool(root / "emo", targets),
        interferer=write_pool(root / "interferer", interferers),
        pretrain=write_pool(root / "pretrain", pretrain),
    )


def write_esd(root, speakers, numbers=(1, 2), parts=False, block=350):
    """Empty wave files in ESD's layout, and its text files.

    Args:
        speakers: names of directories. numbers: of the sentences, from 1, each in five emotions.
        parts: with ``train evaluation test`` folders in that of an emotion, sentences in turn.
        block: numbers of an emotion; 350 in the corpus.
    """
    for speaker in speakers:
        lines = []
        for index, emotion in enumerate(("Neutral", "Angry", "Happy", "Sad", "Surprise")):
            directory = root / speaker / emotion
            folders = [directory]
            if parts:
                folders = [directory / part for part in ("train", "evaluation", "test")]
            for folder in folders:
                folder.mkdir(parents=True)
            for number in numbers:
                name = f"{speaker}_{block * index + number:06d}"
                (folders[number % len(folders)] / f"{name}.wav").touch()
                lines.append(f"{name}\tSome words.\t{emotion}\n")
        # as in the corpus, not every speaker's is UTF-8
        (root / speaker / f"{speaker}.txt").write_text("".join(lines), encoding="utf-16")
    return root


def pool_options(corpora):
    """The options of the command lines for targets and interferers."""
    return ["--targets", str(corpora.emo), "--sources", str(corpora.interferer)]


def edit_table(path, **changes):
    """Change or add lines of a Kaldi file."""
    write_table(path, read_table(path) | changes)


def write_noise(directory, num_groups=9, seconds=(0.7, 2.5), folds=None):
    """A formatted directory of noise, some pieces of each recording.

    Args:
        seconds: of the pieces of every recording: shorter and longer than speech.
        folds: of the recordings, in turn; None: none.
    """
    rng = np.random.default_rng(2)
    tables = {name: {} for name in ("wav.scp", "utt2group", "utt2num_samples", "utt2lufs")}
    tables |= {"utt2fold": {}} if folds else {}
    for group in range(num_groups):
        for piece, length in enumerate(seconds):
            utt, samples = f"n{group}-{piece}", 0.2 * rng.standard_normal(round(length * FS))
            path = directory / "audio" / f"{utt}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples.clip(-1, 1), FS, subtype="PCM_16")
            values = (path, f"n{group}", len(samples), f"{loudness(samples):.4f}")
            for table, value in zip(tables.values(), values, strict=False):
                table[utt] = value
            if folds:
                tables["utt2fold"][utt] = folds[group % len(folds)]
    for name, table in tables.items():
        write_table(directory / name, table)
    return directory
