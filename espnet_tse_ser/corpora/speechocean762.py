"""speechocean762 (openslr.org/101): read English of speakers of Mandarin, adults and children."""

from pathlib import Path

from espnet_tse_ser.corpora import Utterance, check_total
from espnet_tse_ser.corpora.parts import PARTS, choose_part
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_text
from espnet_tse_ser.values.kinds import Choice, Flag, Several, Text
from espnet_tse_ser.values.numbers import COUNT, Number

SETS = ("train", "test")
TOTALS = {"train": (125, 2500), "test": (125, 2500)}  # speakers, utterances


def prepare_speechocean762(
    root: Text(),
    subsets: Several(Choice(*SETS)) = SETS,
    min_age: Number(0, 120, whole=True) = 0,
    complete: Flag() = True,
    parts: PARTS = (100.0,),
    part: COUNT = 1,
):
    """Read speechocean762 (``WAVE``, and ``train`` and ``test`` with Kaldi's tables).

    Args:
        root: the directory that holds these.
        subsets: train, test or both; they share no speaker.
        min_age: leave younger speakers out; 122 of 250 are under 16.
        complete: assert the known numbers of speakers and utterances.
        parts: proportions (e.g. 70,30) by which the speakers of each gender are divided.
        part: which of these parts to take, from 1.

    Returns:
        list of `Utterance` without emotion and fold, sorted; speaker ids are ``so<number>``.

    Raises:
        UserError: wrong root, a recording that is not there, or a wrong total.
    """
    root = Path(root).absolute()
    wavs, speakers, genders = {}, {}, {}
    for subset in subsets:
        tables = {n: _read(root / subset / n) for n in ("wav.scp", "utt2spk", "spk2gender")}
        if complete:
            remedy = "get the archive again, or set complete to false"
            for name, total in zip(("spk2gender", "wav.scp"), TOTALS[subset], strict=True):
                check_total(len(tables[name]), total, f"{root / subset / name}: lines", remedy)
        if different := tables["wav.scp"].keys() ^ tables["utt2spk"].keys():
            raise UserError(
                f"{root / subset}: wav.scp and utt2spk differ, e.g. in {min(different)}; get the "
                "archive again"
            )
        ages = _read(root / subset / "spk2age", whole=True) if min_age else {}
        wavs |= {utt: root / path for utt, path in tables["wav.scp"].items()}
        speakers |= tables["utt2spk"]
        genders |= {s: g for s, g in tables["spk2gender"].items() if int(ages.get(s, 0)) >= min_age}
    missing = [path for path in wavs.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]}: no such recording, and {len(missing) - 1} others of wav.scp are not "
            "there; get the archive again"
        )
    chosen = choose_part(genders, parts, part, "speaker")
    utterances = [
        Utterance(f"so{spk}-{utt}", str(wavs[utt]), f"so{spk}", genders[spk])
        for utt, spk in speakers.items()
        if spk in chosen
    ]
    return sorted(utterances, key=lambda u: u.utt)


def _read(path, whole=False):
    """A table of the archive, which has tabs, as a dict; with ``whole``, of whole numbers."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give the directory that speechocean762's archive unpacks to"
        )
    lines = [line.split() for line in read_text(path).splitlines()]
    for number, line in enumerate(lines, 1):
        if len(line) != 2 or whole and not line[1].isdecimal():
            expected = "a speaker and a whole number" if whole else "two fields"
            raise UserError(
                f"{path}: line {number}: expected {expected}, got {' '.join(line)!r}; get the "
                "archive again"
            )
    return dict(lines)
