"""Formatted directories of synthetic voices."""

import numpy as np

FS = 16000


def voice(rng, pitch, num_samples):
    """A buzz of slowly moving pitch (Hz) and loudness, peak 0.3: ``(num_samples,)``."""
    time = np.arange(num_samples) / FS
    phase = 2 * np.pi * (pitch * time + 3 * np.sin(2 * np.pi * rng.uniform(1, 3) * time))
    buzz = sum(np.sin(n * phase) / n for n in range(1, 6))
    buzz *= 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6))
    buzz += 0.01 * rng.standard_normal(num_samples)
    return (0.3 * buzz / np.abs(buzz).max()).astype(np.float32)


def write_formatted(directory, utterances):
    """A formatted directory of ``(utt, speaker, gender, samples, emotion, fold)``."""
    from espnet_tse_ser.audio.reading import write_audio

    rows = []
    for utt, speaker, gender, samples, emotion, fold in utterances:
        path = directory / "audio" / f"{utt}.wav"
        write_audio(path, samples, FS)
        lufs = 10 * np.log10(np.mean(samples**2)) - 0.7
        rows.append((utt, path, speaker, gender, len(samples), lufs, emotion, fold))
    return write_formatted_tables(directory, rows)


def write_formatted_tables(directory, rows):
    """Its tables, from rows of (utt, path, speaker, gender, samples, lufs, emotion, fold)."""
    from espnet_tse_ser.audio.kaldi_dir import invert, write_table

    tables = {n: {} for n in ("wav.scp", "utt2spk", "utt2num_samples", "utt2lufs")}
    genders, emotions, folds = {}, {}, {}
    for utt, path, speaker, gender, num_samples, lufs, emotion, fold in rows:
        for table, value in zip(
            tables.values(), (path, speaker, num_samples, f"{lufs:.4f}"), strict=True
        ):
            table[utt] = value
        genders[speaker] = gender
        if emotion:
            emotions[utt], folds[utt] = emotion, fold
    for name, table in tables.items():
        write_table(directory / name, table)
    write_table(directory / "spk2utt", invert(tables["utt2spk"]))
    write_table(directory / "spk2gender", genders)
    if emotions:
        write_table(directory / "utt2emo", emotions)
        write_table(directory / "utt2fold", folds)
    return directory
