"""The mini corpora: synthetic speech in the exact layouts of IEMOCAP, LibriSpeech and ESD, noise.

They exist to run every stage of a recipe in minutes and without a download. The "emotions" are
settings of a synthesiser and say nothing about people.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.reading import to_mono, write_audio
from espnet_tse_ser.corpora import esd, is_made
from espnet_tse_ser.corpora.espeak import RATE, Speech, speak_all
from espnet_tse_ser.corpora.mini_noise import make_noise
from espnet_tse_ser.files import AtomicFiles, write_json, write_text
from espnet_tse_ser.progress import progress
from espnet_tse_ser.values.kinds import Text
from espnet_tse_ser.values.numbers import SEED

VERSION = 3  # of the recipe below; raise it when the audio changes
FS = 16000
IEMOCAP_DIR = "IEMOCAP_full_release"
LIBRISPEECH_DIR = "LibriSpeech"
LIBRISPEECH_SUBSET = "train-mini"
ESD_DIR = "ESD"
NOISE_DIR = "noise"

NUM_SENTENCES = 8  # a speaker and class
_DIALOGS = ("F_impro01", "M_impro01", "F_script01_1", "M_script01_1")
_EXTRA_LABELS = ("fru", "fru", "xxx")  # per speaker; the preparation has to skip them
_GAIN = 0.5  # resampling overshoots, and real recordings have headroom too
_ROOM_NOISE = 10 ** (-70 / 20)  # full scale is 1; digital silence between words is not natural


@dataclass(frozen=True)
class _Style:
    """How an emotion departs from the speaker's own voice (see `Speech` for the units)."""

    rate: float  # factor
    pitch: float
    range: float
    volume: float
    ends: tuple[str, ...]


_STYLES = {
    "ang": _Style(1.4, 4, 15, 90, ("!",)),
    "hap": _Style(0.95, 34, 45, 80, ("!", "?")),
    "neu": _Style(1.0, 0, -10, 70, (".",)),
    "sad": _Style(0.75, -15, -30, 50, (".", ",")),
    "fru": _Style(1.08, 3, 5, 75, (".", "!")),
    "xxx": _Style(1.0, 4, 10, 70, (".",)),
    "sur": _Style(1.15, 26, 40, 85, ("?", "!")),
}
_CATEGORIES = {  # as the evaluators' lines of IEMOCAP name them
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "neu": "Neutral",
    "sad": "Sadness",
    "fru": "Frustration",
    "xxx": "Other",
}
_ATTRIBUTES = {  # valence, activation, dominance, 1 to 5
    "ang": (1.5, 4.0, 4.0),
    "hap": (4.0, 3.5, 3.0),
    "exc": (4.0, 4.0, 3.5),
    "neu": (3.0, 2.5, 3.0),
    "sad": (2.0, 2.0, 2.0),
    "fru": (2.0, 3.0, 3.0),
    "xxx": (2.5, 2.5, 2.5),
}
_JITTER = {"rate": 0.06, "pitch": 3.0, "range": 8.0, "volume": 6.0}  # standard deviations

# Voice and own pitch of the woman and the man of each session
_ACTORS = (
    (("en-us+f1", 48), ("en-us+m1", 48)),
    (("en-us+f2", 46), ("en-us+m2", 53)),
    (("en-us+f3", 50), ("en-us+m3", 45)),
    (("en-us+f4", 54), ("en-us+m4", 51)),
    (("en-us+f5", 45), ("en-us+m5", 42)),
)
_LINES = (
    "I told you about this yesterday",
    "They are waiting at the door",
    "You never said a word to me",
    "We can talk about it later",
    "She left the letter on the table",
    "He came home before the others",
    "There is nothing more to do",
    "My brother called me this morning",
    "That is what the doctor said",
    "I do not know where they went",
    "You should look at the picture",
    "The train will be here soon",
)

# Readers: variants that no actor has, the accents of other languages, and different pitches
_READER_VARIANTS = {
    "F": (
        *("Alicia", "Andrea", "Annie", "anika", "aunty"),
        *("belinda", "linda", "steph", "grandma", "shelby"),
    ),
    "M": (
        *("Andy", "Denis", "Diogo", "Hugo", "Lee", "Michael", "Mike", "adam", "boris", "david"),
        *("edward", "kaukovalta", "max", "norbert", "quincy", "victor", "m6", "m7", "m8", "mike2"),
    ),
}
# English speakers of ESD, with the genders that the corpus has: further variants, own pitches
_ESD_ACTORS = {
    "0011": ("en-us+antonio", 50),
    "0012": ("en-us+robert", 53),
    "0013": ("en-us+travis", 47),
    "0014": ("en-us+michel", 50),
    "0015": ("en-us+steph2", 48),
    "0016": ("en-us+steph3", 56),
    "0017": ("en-gb-scotland+steph2", 64),
    "0018": ("en-gb-x-rp+steph3", 42),
    "0019": ("en-029+steph2", 38),
    "0020": ("en-us+sandro", 52),
}
_ESD_SENTENCES = 2  # each in every emotion
_ACCENTS = ("en-us", "en", "en-gb-scotland", "de", "en-gb-x-rp", "nl", "en-029", "sv", "it")
_READER_STYLES = ("ang", "hap", "neu", "sad", "fru", "xxx")
_READERS_PER_GENDER = 100
_READER_SENTENCES = 3
_TEXTS = (
    "The river was high after the long rain of the spring",
    "Nobody in the village remembered the name of the old captain",
    "He opened the window and listened to the bells of the church",
    "A thin line of smoke rose slowly over the roofs of the town",
    "They walked for an hour along the edge of the forest",
    "She kept her books in a wooden box under the stairs",
    "In the evening the ships returned with very little fish",
    "The judge read the paper twice and then laid it aside",
    "It was the first warm day that they had had that year",
    "His uncle owned a small shop near the market square",
    "Behind the garden there was a field of yellow flowers",
    "The two friends had not spoken since the end of the war",
)


def make_mini(output_dir: Text() = "downloads/mini", seed: SEED = 0):
    """Make ``IEMOCAP_full_release``, ``LibriSpeech`` (``train-mini``), ``ESD`` and ``noise``.

    IEMOCAP: 5 sessions of a woman and a man, 8 utterances of 1 to 2 s a speaker and class (half
    of the happy ones labelled excited), and some of other classes. LibriSpeech: 100 women and
    100 men with other voices, 3 utterances of 1.5 to 5 s each. ESD: its English speakers, two
    sentences in each of the five emotions. Noise: see `make_noise`. The same seed gives the
    same bytes. A finished directory is left as it is.

    Args:
        output_dir: directory to write.
        seed: another seed, other utterances.

    Raises:
        UserError: ``output_dir`` was made with another seed or version, or there is no espeak-ng.
    """
    output_dir = Path(output_dir)
    marker = output_dir / "mini.json"
    made = {"seed": seed, "version": VERSION}
    make_noise(output_dir / NOISE_DIR, seed)
    if is_made(marker, made):
        return
    rng = np.random.default_rng(seed)
    labels, speeches = _plan_iemocap(output_dir / IEMOCAP_DIR, rng)
    speeches.update(_plan_librispeech(output_dir / LIBRISPEECH_DIR, rng))
    # Last and with draws of its own, so that the others are what they were without it
    speeches.update(_plan_esd(output_dir / ESD_DIR, np.random.default_rng([seed, 1])))
    seconds = {}
    pairs = zip(speeches, speak_all(speeches.values()), strict=True)
    with AtomicFiles() as files:
        for path, samples in progress(pairs, "mini corpora", total=len(speeches)):
            samples = to_mono(samples, RATE, FS)
            noise = rng.standard_normal(len(samples), np.float32)
            samples = _GAIN * samples + _ROOM_NOISE * noise
            write_audio(path, samples, FS, files)
            seconds[path] = len(samples) / FS
    _write_evaluations(output_dir / IEMOCAP_DIR, labels, seconds)
    _write_speakers(output_dir / LIBRISPEECH_DIR, seconds)
    _write_transcripts(output_dir / ESD_DIR, speeches)
    write_json(marker, made)


def _plan_iemocap(root, rng):
    """Label and speech of every wave file; each session's turns are dealt out to its dialogs."""
    labels, speeches = {}, {}
    for session, actors in enumerate(_ACTORS, 1):
        turns = []
        for gender, (voice, pitch) in zip("FM", actors, strict=True):
            for label in ("ang", "hap", "neu", "sad"):
                lines = rng.permutation(_LINES)[:NUM_SENTENCES]
                turns += [(gender, label, _speech(str(t), voice, pitch, label, rng)) for t in lines]
            for label in _EXTRA_LABELS:
                text = str(rng.choice(_LINES))
                turns.append((gender, label, _speech(text, voice, pitch, label, rng)))
        counts = Counter()
        for index, turn in enumerate(rng.permutation(len(turns))):
            gender, label, speech = turns[turn]
            dialog = f"Ses{session:02d}{_DIALOGS[index % len(_DIALOGS)]}"
            utt = f"{dialog}_{gender}{counts[dialog, gender]:03d}"
            counts[dialog, gender] += 1
            path = root / f"Session{session}" / "sentences" / "wav" / dialog / f"{utt}.wav"
            if label == "hap":
                counts["hap"] += 1
                label = "exc" if counts["hap"] % 2 else "hap"
            labels[path], speeches[path] = label, speech
    return labels, speeches


def _plan_librispeech(root, rng):
    """Speech of every file of the readers; the readers' numbers are odd for women."""
    speeches = {}
    for offset, gender in enumerate("FM"):
        variants = _READER_VARIANTS[gender]
        for index in range(_READERS_PER_GENDER):
            variant = variants[index % len(variants)]
            voice = f"{_ACCENTS[index % len(_ACCENTS)]}+{variant}"
            # Another pitch where a variant comes again, so that it is another voice
            rounds, again = _READERS_PER_GENDER // len(variants), index // len(variants)
            pitch = 50 + 4 * (index % 3 - 1) + 40 * (again / (rounds - 1) - 0.5)
            reader = 101 + 2 * index + offset
            for number, text in enumerate(rng.permutation(_TEXTS)[:_READER_SENTENCES]):
                path = (
                    root / LIBRISPEECH_SUBSET / f"{reader}" / "1" / f"{reader}-1-{number:04d}.flac"
                )
                # They read dialogues, not only prose: an extractor has to know lively voices.
                style = str(rng.choice(_READER_STYLES))
                speeches[path] = _speech(str(text), voice, pitch, style, rng)
    return speeches


def _plan_esd(root, rng):
    """Speech of every wave file; file numbers are ESD's, 350 an emotion."""
    speeches = {}
    for speaker, (voice, pitch) in _ESD_ACTORS.items():
        lines = [str(line) for line in rng.permutation(_LINES)[:_ESD_SENTENCES]]
        for block, (emotion, label) in enumerate(esd.EMOTIONS.items()):
            for number, line in enumerate(lines, 1 + block * esd.NUM_SENTENCES):
                path = root / speaker / emotion / f"{speaker}_{number:06d}.wav"
                speeches[path] = _speech(line, voice, pitch, label, rng)
    return speeches


def _speech(text, voice, pitch, label, rng):
    style = _STYLES[label]
    jitter = {name: deviation * rng.standard_normal() for name, deviation in _JITTER.items()}
    return Speech(
        text=text + style.ends[rng.integers(len(style.ends))],
        voice=voice,
        rate=max(185 * style.rate * (1 + jitter["rate"]), 80),
        pitch=float(np.clip(pitch + style.pitch + jitter["pitch"], 0, 99)),
        range=float(np.clip(50 + style.range + jitter["range"], 0, 99)),
        volume=float(np.clip(style.volume + jitter["volume"], 30, 100)),
    )


def _write_evaluations(root, labels, seconds):
    """One EmoEvaluation file a dialog, its turns one after the other in time."""
    lines, clock = defaultdict(list), Counter()
    for path, label in labels.items():
        dialog = (path.parents[3], path.parent.name)
        start = clock[dialog] + 1.0
        clock[dialog] = end = start + seconds[path]
        attributes = ", ".join(f"{value:.4f}" for value in _ATTRIBUTES[label])
        lines[dialog].append(f"[{start:.4f} - {end:.4f}]\t{path.stem}\t{label}\t[{attributes}]\n")
        lines[dialog].append(f"C-E1:\t{_CATEGORIES[label]};\t()\n\n")
    for (session, dialog), text in lines.items():
        write_text(
            session / "dialog" / "EmoEvaluation" / f"{dialog}.txt",
            "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "".join(text),
        )


def _write_speakers(root, seconds):
    minutes = Counter()
    for path, duration in seconds.items():
        if root in path.parents:
            minutes[int(path.parents[1].name)] += duration / 60
    lines = [
        f"{reader:<4} | {'F' if reader % 2 else 'M'} | {LIBRISPEECH_SUBSET:<16} | {total:5.2f} | "
        f"espeak-ng voice {reader}\n"
        for reader, total in sorted(minutes.items())
    ]
    write_text(
        root / "SPEAKERS.TXT", ";ID  |SEX| SUBSET           |MINUTES| NAME\n" + "".join(lines)
    )


def _write_transcripts(root, speeches):
    """One file a speaker: utterance, words and emotion, tab separated."""
    lines = defaultdict(list)
    for path, speech in speeches.items():
        if root in path.parents:
            lines[path.parents[1]].append(f"{path.stem}\t{speech.text}\t{path.parent.name}\n")
    for directory, text in lines.items():
        write_text(directory / f"{directory.name}.txt", "".join(sorted(text)))
