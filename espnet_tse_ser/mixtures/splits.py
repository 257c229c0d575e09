"""Folds and development sets: who is trained on, tuned on, tested on."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.id_list import read_lines
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.ids import fold_key
from espnet_tse_ser.values.schemes import SCHEMES

SIDES = ("train", "dev", "test")


def fold_of_speakers(entries, scheme):
    """The fold in which each target speaker is tested.

    ``loso`` and ``best_test_epoch`` leave one group of speakers out (IEMOCAP: a session), which
    is the fold of the corpus. ``loso_speaker`` leaves one speaker out: the folds are numbered in
    the order of the corpus' folds and, within these, of the speakers.

    Returns:
        dict speaker -> fold.

    Raises:
        UserError: an unknown scheme, or a speaker with no fold or with two.
    """
    if scheme not in SCHEMES:
        raise UserError(f"--scheme must be one of {', '.join(SCHEMES)}, got '{scheme}'")
    fold_of = {}
    for e in entries:
        if e.fold is None:
            raise UserError(f"target '{e.utt}' has no fold; see utt2fold")
        if fold_of.setdefault(e.speaker, e.fold) != e.fold:
            raise UserError(
                f"target '{e.utt}': speaker '{e.speaker}' is in fold '{e.fold}' here and in fold "
                f"'{fold_of[e.speaker]}' before; correct utt2fold"
            )
    if scheme != "loso_speaker":
        return fold_of
    order = sorted(fold_of, key=lambda s: (fold_key(fold_of[s]), s))
    return {speaker: str(number) for number, speaker in enumerate(order, 1)}


def hold_out_speakers(gender, share, seed, name):
    """Choose speakers to hold out, the same share of each gender, at least one of each.

    Args:
        gender: dict speaker -> "m" or "f"; share: in (0, 1). name: of what they are of.

    Returns:
        set of speakers.

    Raises:
        UserError: holding out would leave a gender without training speakers.
    """
    if not 0 < share < 1:
        raise UserError(f"share of speakers to hold out must lie between 0 and 1, got {share}")
    rng = np.random.default_rng(seed)
    groups = defaultdict(list)
    for speaker in sorted(gender):
        groups[gender[speaker]].append(speaker)
    chosen = set()
    for kind in sorted(groups):
        speakers = groups[kind]
        count = max(1, round(share * len(speakers)))
        if count >= len(speakers):
            raise UserError(
                f"{name}: holding out {count} of {len(speakers)} speaker(s) of gender '{kind}' "
                "leaves none to train on; add speakers, or cut dev from the utterances of all: "
                "--dev_split utterance"
            )
        chosen |= {str(s) for s in rng.choice(speakers, size=count, replace=False)}
    return chosen


def share_of_speakers(gender, share, seed):
    """Choose the same share of each gender's speakers, at least one of each.

    A smaller share of the same seed is part of a larger one.

    Args:
        gender: dict speaker -> "m" or "f"; share: in (0, 1]; 1 takes all.

    Returns:
        set of speakers.

    Raises:
        UserError: ``share`` is no such number.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise UserError(f"speaker_share must lie above 0 and not above 1, got {share!r}")
    rng = np.random.default_rng([seed, 4])
    chosen = set()
    for name in sorted(set(gender.values())):
        speakers = rng.permutation(sorted(s for s in gender if gender[s] == name))
        chosen |= {str(s) for s in speakers[: max(1, round(share * len(speakers)))]}
    return chosen


def split_fold(entries, fold, dev_split, dev_share, seed, scheme="loso", groups=None):
    """Split utterances into the train, dev and test ids of one fold.

    Args:
        entries: iterable with ``utt``, ``speaker``, ``gender``, ``emotion`` and ``fold``.
        fold: the test fold.
        scheme: ``loso`` cuts dev from the training side. With ``loso_speaker`` dev is the other
            speakers of the test speaker's group. With ``best_test_epoch`` dev is the test fold
            itself, as in ShiftSER's code: what is reported for it is too good.
        groups: with ``loso_speaker``, speaker -> group (IEMOCAP: the session).
        dev_split: "speaker" holds out whole training speakers for dev; "utterance" cuts dev
            from every training speaker and emotion (for corpora of few speakers).
        dev_share: share of the training side that becomes dev.

    Returns:
        dict with sorted lists ``train``, ``dev``, ``test``.

    Raises:
        UserError: an empty side, or an unknown ``dev_split``.
    """
    if not 0 < dev_share < 1:
        raise UserError(f"--dev_share must lie between 0 and 1, got {dev_share}")
    entries = list(entries)
    test = sorted(e.utt for e in entries if e.fold == fold)
    rest = [e for e in entries if e.fold != fold]
    if not test or not rest:
        raise UserError(
            f"fold '{fold}': {len(test)} test and {len(rest)} training utterances; "
            "check utt2fold and --folds"
        )
    if scheme == "best_test_epoch":
        dev = set(test)
    elif scheme == "loso_speaker":
        (speaker,) = {e.speaker for e in entries if e.fold == fold}
        dev = {e.utt for e in rest if groups[e.speaker] == groups[speaker]}
        if not dev:
            raise UserError(
                f"speaker '{speaker}' is alone in fold '{groups[speaker]}' of utt2fold, but "
                "loso_speaker takes dev from the other speakers of that fold; use loso"
            )
    elif dev_split == "speaker":
        genders = {e.speaker: e.gender for e in rest}
        held_out = hold_out_speakers(genders, dev_share, seed, f"fold '{fold}'")
        dev = {e.utt for e in rest if e.speaker in held_out}
    elif dev_split == "utterance":
        rng = np.random.default_rng(seed)
        strata = defaultdict(list)
        for e in sorted(rest, key=lambda e: e.utt):
            strata[e.speaker, e.emotion].append(e.utt)
        dev = set()
        for key in sorted(strata):
            count = round(dev_share * len(strata[key]))
            if len(strata[key]) > 1:
                count = max(1, count)
            dev |= {str(u) for u in rng.choice(strata[key], size=count, replace=False)}
    else:
        raise UserError(f"--dev_split must be 'speaker' or 'utterance', got '{dev_split}'")
    train = sorted(e.utt for e in rest if e.utt not in dev)
    if not train or not dev:
        raise UserError(
            f"fold '{fold}': {len(train)} train and {len(dev)} dev are left; change --dev_share"
        )
    return {"train": train, "dev": sorted(dev), "test": test}


def read_split(directory):
    """Read ``{train,dev,test}.lst`` of one fold.

    Raises:
        UserError: a list is missing, or a line of it holds no id.
    """
    return {side: read_lines(Path(directory) / f"{side}.lst") for side in SIDES}


def shared_noise(splits, noise_of, tested=None):
    """The recordings of noise that are in training (or dev) and in the test of the same fold.

    Args:
        splits: of each fold the ids of ``train``, ``dev`` and ``test``; a dev set that is the test
            fold counts as that.
        noise_of: id of a mixture -> recordings in it; tested: the same where it is tested (None:
            ``noise_of``).

    >>> split = {"train": ["a"], "dev": ["b"], "test": ["c"]}
    >>> shared_noise([split], {"a": ["rain"], "b": ["wind"], "c": ["hum", "wind"]})
    {'wind'}
    """
    tested, shared = tested or noise_of, set()
    for split in splits:
        trained = {*split["train"], *split["dev"]} - {*split["test"]}
        shared |= {g for utt in trained for g in noise_of.get(utt, ())} & {
            g for utt in split["test"] for g in tested.get(utt, ())
        }
    return shared


def describe_dev(splits, speaker_of, scheme=None):
    """How the dev sets of folds were cut, and which share of the training side they are, in words.

    Args:
        splits: of each fold the ids of ``train``, ``dev`` and ``test``. speaker_of: id -> speaker.
        scheme: that they were made for; None: not known.

    >>> split = {"train": ["a1", "a2", "b1"], "dev": ["c1"], "test": ["d1"]}
    >>> describe_dev([split], {"a1": "a", "a2": "a", "b1": "b", "c1": "c", "d1": "d"})
    'by speaker, 25.0 % of the training side'
    """
    ways, shares = set(), set()
    for split in splits:
        if set(split["dev"]) == set(split["test"]):
            return "the test fold"
        train, dev = ({speaker_of[utt] for utt in split[side]} for side in ("train", "dev"))
        ways.add("by utterance" if train & dev else "by speaker")
        shares.add(100 * len(split["dev"]) / (len(split["dev"]) + len(split["train"])))
    ends = dict.fromkeys(f"{share:.1f}" for share in (min(shares), max(shares)))
    if scheme == "loso_speaker":  # which cuts no dev sets: they follow from the groups
        ways = {"the rest of the test speaker's group"}
    return f"{' and '.join(sorted(ways))}, {' to '.join(ends)} % of the training side"
