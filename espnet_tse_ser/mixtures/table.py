"""The mixture table: which utterance is mixed with which sources, how loud, and who enrolls.

One `Mixture` is one line of ``mixtures.tsv``. With the formatted corpora the table fixes the audio
bit for bit. A table has a column for noise or for levels only where its mixtures have them.
"""

from dataclasses import dataclass, fields
from pathlib import Path

from espnet_tse_ser.audio.kaldi_dir import NOISE, TALKER
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.values.ids import check_fold, check_id
from espnet_tse_ser.values.kinds import Choice, Either, Several
from espnet_tse_ser.values.numbers import Number

CLEAN = "clean"  # the level of a mixture without a source
LEVELS = Several(Either(Number(-100, 100), Choice(CLEAN)))  # a set of SNRs in dB
NONE = "none"  # the emotion of unlabelled speech, the gender state of a mixture without talkers


def level_key(level):
    """The value by which levels are ordered, clean last.

    >>> sorted(["clean", "10", "-5"], key=level_key)
    ['-5', '10', 'clean']
    """
    return float("inf") if level == CLEAN else float(level)


@dataclass(frozen=True)
class Source:
    """What disturbs a target, as it is in a mixture.

    ``group`` is the speaker of a talker, the original recording of noise. The gain is in dB, the
    offset in samples (see `mixing.place`). Noise has neither gender nor emotion.
    """

    kind: str
    utt: str
    group: str
    gain_db: float
    offset: int
    gender: str | None = None
    emotion: str | None = None


@dataclass(frozen=True)
class Mixture:
    """One mixture; without sources it is the target.

    ``gain_db`` is the target's. ``snr_db`` is over the whole mixture, None without sources;
    ``overlap`` is the share of the target during which a source is there. ``gender_state`` is
    "same" when every talker has the target's gender, "none" when there is no talker, else
    "different". The enrollment is its utterances (maybe none) one after the other, cut to
    ``enrollment_samples`` (0: whole). The mixture goes on for ``tail`` samples after the target.
    ``level`` is the one of a set of levels that was drawn: "clean", or an SNR in dB.
    """

    mixture: str
    target: str
    speaker: str
    gender: str
    emotion: str
    gain_db: float
    sources: tuple
    snr_db: float | None
    overlap: float
    gender_state: str
    enrollment: tuple
    fold: str
    seed: int
    tail: int = 0
    enrollment_samples: int = 0
    level: str = ""

    def of_kind(self, kind):
        """The sources of a kind, as a list."""
        return [source for source in self.sources if source.kind == kind]


_NAMES = ("mixture", "target", "speaker", "gender", "emotion")
_KINDS = {  # kind of source -> column -> field of `Source`
    TALKER: {
        "interferers": "utt",
        "interferer_speakers": "group",
        "interferer_genders": "gender",
        "interferer_emotions": "emotion",
    },
    NOISE: {"noises": "utt", "noise_groups": "group"},
}
_SAMPLES = Number(0, 10**10, whole=True)
_NUMBERS = {
    "gains_db": Number(-1000, 1000),
    "offsets": Number(-(10**10), 10**10, whole=True),
    "snr_db": Number(-1000, 1000),
    "overlap": Number(0, 1),
    "seed": Number(0, whole=True),
    "tail": _SAMPLES,
    "enrollment_samples": _SAMPLES,
    "level": Either(Number(-1000, 1000), Choice(CLEAN)),
}
_LISTS = (*_KINDS[TALKER], *_KINDS[NOISE], "gains_db", "offsets", "enrollment")
COLUMNS = [*_NAMES, *_KINDS[TALKER], "gains_db", "offsets", "snr_db", "overlap", "gender_state"]
COLUMNS += ["enrollment", "fold", "seed", "tail", "enrollment_samples"]
_FURTHER = {"noises": [*_KINDS[NOISE]], "level": ["level"]}  # where the first has something


def write_mixtures(path, mixtures):
    """Write the mixtures, sorted by id, as a tab-separated table.

    Raises:
        UserError: what is to be an id is none.
    """
    rows = []
    for mixture in sorted(mixtures, key=lambda m: m.mixture):
        row = vars(mixture) | {"gains_db": [mixture.gain_db], "offsets": []}
        for kind, columns in _KINDS.items():
            sources = mixture.of_kind(kind)
            row |= {column: [getattr(s, f) for s in sources] for column, f in columns.items()}
            row["gains_db"] += [s.gain_db for s in sources]
            row["offsets"] += [s.offset for s in sources]
        _check_ids(row, f"{path}: mixture '{mixture.mixture}'")
        rows.append(row | {column: ",".join(map(str, row[column])) for column in _LISTS})
    columns = list(COLUMNS)
    for first, further in _FURTHER.items():
        columns += further if any(row[first] for row in rows) else ()
    write_tsv(path, [{column: row[column] for column in columns} for row in rows], columns)


def read_mixtures(path):
    """Read a mixture table.

    Returns:
        list of `Mixture`.

    Raises:
        UserError: the table is missing or malformed, what is to be an id is none, or a mixture id
            occurs twice.
    """
    path = Path(path)
    mixtures, seen = [], set()
    for number, row in enumerate(read_tsv(path, COLUMNS), 2):
        where = f"{path}: line {number}"
        mixtures.append(_read(row, where))
        if row["mixture"] in seen:
            raise UserError(f"{where}: duplicate mixture id '{row['mixture']}'; remove one")
        seen.add(row["mixture"])
    return mixtures


_REMEDY = "correct it, or delete the table and run stage 2 again"


def _read(row, where):
    """The `Mixture` of a row of texts."""
    row = dict.fromkeys(sum(_FURTHER.values(), []), "") | row
    row |= {c: tuple(row[c].split(",")) if row[c] else () for c in _LISTS}
    counts = {kind: len(row[next(iter(columns))]) for kind, columns in _KINDS.items()}
    total = sum(counts.values())
    expected = {c: counts[kind] for kind, columns in _KINDS.items() for c in columns}
    for column, count in (expected | {"gains_db": total + 1, "offsets": total}).items():
        if len(row[column]) != count:
            raise UserError(
                f"{where}: {column} has {len(row[column])} item(s), but with {total} source(s) it "
                f"has {count}; {_REMEDY}"
            )
    for column, kind in _NUMBERS.items():
        try:
            if column in _LISTS:
                row[column] = tuple(map(kind, row[column]))
            elif column != "level":
                without = column == "snr_db" and not total and not row[column]
                row[column] = None if without else kind(row[column])
            elif row[column]:
                kind(row[column])
        except ValueError as error:
            raise UserError(f"{where}: {column}: {error}; {_REMEDY}") from None
    _check_ids(row, where)
    gain, *gains = row["gains_db"]
    sources = []
    for kind, columns in _KINDS.items():
        for traits in zip(*(row[column] for column in columns), strict=True):
            number = len(sources)
            traits = dict(zip(columns.values(), traits, strict=True))
            place = {"gain_db": gains[number], "offset": row["offsets"][number]}
            sources.append(Source(kind, **traits, **place))
    given = {f.name: row[f.name] for f in fields(Mixture) if f.name in row}
    return Mixture(**given, gain_db=gain, sources=tuple(sources))


def _check_ids(row, where):
    """Check all of a row that is an id, or a list of them."""
    for column in (*_NAMES, "gender_state"):
        check_id(row[column], f"{where}: {column}")
    check_fold(row["fold"], f"{where}: fold")
    for column in _LISTS:
        for item in row[column] if column not in _NUMBERS else ():
            check_id(item, f"{where}: {column}")
