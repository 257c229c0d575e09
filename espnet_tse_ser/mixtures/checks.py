"""Checks of the data before any training. Violations name their ids and are reported together."""

import math
from collections import Counter, defaultdict
from zlib import crc32

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import GROUP_TABLES, NOISE, TALKER
from espnet_tse_ser.audio.reading import read_mono
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.splits import SIDES
from espnet_tse_ser.mixtures.table import CLEAN, NONE
from espnet_tse_ser.progress import progress

MIN_SAMPLES = 1600  # 0.1 s at 16 kHz: shorter speech carries no emotion and no speaker
_GROUPS = {TALKER: "speaker", NOISE: "recording"}
_ROLES = {TALKER: "interferer", NOISE: "noise"}
_DB_ROUNDING = 0.01  # of an SNR by gains with four decimals


def check_audio(pool, label, seen=None):
    """Yield a violation for every recording of the pool whose audio is not usable.

    Nor is audio that another group has as well, to the bit: one of the two does not belong there.

    Args:
        label: what the pool is called in a message. seen: dict that the checks of several pools
            share, to find such audio across them.
    """
    seen = {} if seen is None else seen  # (length, checksum) of audio -> whose it is
    for utt, entry in progress(pool.entries.items(), f"check audio of {label}", len(pool)):
        try:
            samples = read_mono(entry.wav, pool.fs, MIN_SAMPLES)
        except UserError as error:
            yield f"{label} '{utt}': {error}"
            continue
        if len(samples) != entry.num_samples:
            yield (
                f"{label} '{utt}': {entry.wav} has {len(samples)} samples, utt2num_samples says "
                f"{entry.num_samples}; run stage 1 again"
            )
            continue
        other_label, other = seen.setdefault((len(samples), crc32(samples)), (label, entry))
        is_other = (other.kind, other.group) != (entry.kind, entry.group)
        if is_other and _is_audio_of(other, samples, pool.fs):
            yield (
                f"{label} '{utt}' of {_GROUPS[entry.kind]} '{entry.group}' and {other_label} "
                f"'{other.utt}' of {_GROUPS[other.kind]} '{other.group}' are the same audio "
                f"({entry.wav}, {other.wav}); correct wav.scp or {GROUP_TABLES[entry.kind]}, or "
                "leave one out"
            )


def _is_audio_of(entry, samples, fs):
    return np.array_equal(read_mono(entry.wav, fs), samples)


def check_labels(targets, labels):
    """Yield a violation for every emotion not in ``labels`` and every label without speech."""
    for utt, entry in targets.entries.items():
        if entry.emotion not in labels:
            yield (
                f"target '{utt}': unknown emotion '{entry.emotion}', known: {' '.join(labels)}; "
                "correct utt2emo or --labels"
            )
    for label in sorted(set(labels) - {entry.emotion for entry in targets.entries.values()}):
        yield f"no target has the emotion '{label}'; leave it out of --labels, or correct utt2emo"


def check_folds(mixtures, folds):
    """Yield a violation for every one of ``folds`` (names) that has no mixture."""
    known = {m.fold for m in mixtures}
    for fold in folds:
        if fold not in known:
            yield f"there is no fold {fold}, only {' '.join(sorted(known))}; correct --folds"


def untested(mixtures, folds):
    """Fold -> number of its mixtures, of those that are not among ``folds`` (names)."""
    return Counter(m.fold for m in mixtures if m.fold not in folds)


def check_groups(pools):
    """Yield a violation for every speaker or recording in more than one of ``pools``.

    Args:
        pools: dict label -> `Pool`.
    """
    places = defaultdict(list)
    for label, pool in pools.items():
        for group in pool.by_group:
            places[_GROUPS[pool.kind], group].append(label)
    for (what, group), found in sorted(places.items()):
        if len(found) > 1:
            yield f"{what} '{group}' is in {' and in '.join(found)}; keep one of them"


def check_mixtures(mixtures, targets, sources, neutral="neu"):
    """Yield a violation for every mixture that contradicts the pools or enrolls wrongly.

    Args:
        mixtures: list of `Mixture`. targets, sources: `Pool`; sources may be None.
        neutral: label of the enrollments. All mixtures have one, or none has.
    """
    enrolled = any(mixture.enrollment for mixture in mixtures)
    for mixture in mixtures:
        name = f"mixture '{mixture.mixture}'"
        target = targets.entries.get(mixture.target)
        if target is None:
            yield f"{name}: unknown target '{mixture.target}'; run stage 2 again"
            continue
        if (target.speaker, target.emotion, target.fold) != (
            mixture.speaker,
            mixture.emotion,
            mixture.fold,
        ):
            yield (
                f"{name}: speaker, emotion and fold are '{mixture.speaker}', '{mixture.emotion}', "
                f"'{mixture.fold}', but the target has '{target.speaker}', '{target.emotion}', "
                f"'{target.fold}'; run stage 2 again"
            )
        for violation in _check_sources(mixture, target, sources):
            yield f"{name}: {violation}; run stage 2 again"
        if enrolled and not mixture.enrollment:
            yield f"{name}: has no enrollment, but others have one; run stage 2 again"
        for enrollment in mixture.enrollment:
            yield from _check_enrollment(name, mixture, enrollment, targets, neutral)


def _check_sources(mixture, target, pool):
    """What the table says about the sources of a mixture, against their entries in the pool."""
    genders = set()
    for source in mixture.sources:
        what = _ROLES[source.kind]
        entry = pool.entries.get(source.utt) if pool and pool.kind == source.kind else None
        if entry is None:
            yield f"unknown {what} '{source.utt}'"
            return
        traits = {_GROUPS[source.kind]: (source.group, entry.group)}
        if source.kind == TALKER:
            genders.add(entry.gender)
            traits["gender"] = source.gender, entry.gender
            traits["emotion"] = source.emotion, entry.emotion or NONE
            if entry.speaker == target.speaker:
                yield f"interferer '{entry.utt}' is of the target's own speaker '{entry.speaker}'"
        for trait, (stated, actual) in traits.items():
            if stated != actual:
                yield f"{what} '{source.utt}': {trait} is '{stated}', but it has '{actual}'"
    state = "same" if genders == {target.gender} else "different" if genders else NONE
    if mixture.gender_state != state:
        yield f"gender_state is '{mixture.gender_state}', but the genders are '{state}'"
    if (mixture.snr_db is None) != (not mixture.sources):
        yield f"snr_db is {mixture.snr_db}, but there are {len(mixture.sources)} source(s)"
    snr = math.inf if mixture.snr_db is None else mixture.snr_db
    level = math.inf if mixture.level == CLEAN else float(mixture.level or snr)
    if snr != level and not abs(snr - level) < _DB_ROUNDING:
        yield f"level is {mixture.level}, but snr_db is {mixture.snr_db}"


def _check_enrollment(name, mixture, utt, targets, neutral):
    enrollment = targets.entries.get(utt)
    if enrollment is None:
        yield f"{name}: unknown enrollment '{utt}'; run stage 2 again"
        return
    if utt == mixture.target:
        yield f"{name}: the enrollment is the target utterance; choose another"
    if enrollment.speaker != mixture.speaker:
        yield (
            f"{name}: enrollment '{utt}' is of speaker '{enrollment.speaker}', not of the target "
            f"'{mixture.speaker}'"
        )
    if enrollment.emotion != neutral:
        yield f"{name}: enrollment '{utt}' is '{enrollment.emotion}', not '{neutral}'"


def check_split(fold, split, mixtures, scheme="loso", noise_split="groups"):
    """Yield violations of one fold.

    Args:
        fold: name. split: dict with the ids of train, dev and test. mixtures: all of them.
        scheme: with ``best_test_epoch`` dev has to be the test fold.
        noise_split: "none": noise may be on both sides.
    """
    by_id = {m.mixture: m for m in mixtures}
    if scheme == "best_test_epoch":
        if sorted(split["dev"]) != sorted(split["test"]):
            yield f"fold {fold}: dev is not the test fold, as best_test_epoch has it; run stage 2"
        split = split | {"dev": []}
    counts = Counter(utt for side in SIDES for utt in split[side])
    for utt, count in sorted(counts.items()):
        if count > 1:
            yield f"fold {fold}: '{utt}' is listed {count} times in train, dev and test"
        if utt not in by_id:
            yield f"fold {fold}: '{utt}' is not in the mixture table; run stage 2 again"
    for utt in sorted(set(by_id) - set(counts)):
        yield f"fold {fold}: mixture '{utt}' is in none of train, dev and test"
    for side in SIDES:
        if not split[side] and (side, scheme) != ("dev", "best_test_epoch"):
            yield f"fold {fold}: {side} is empty"
        for utt in split[side]:
            if utt in by_id and (by_id[utt].fold == fold) != (side == "test"):
                yield f"fold {fold}: '{utt}' of fold {by_id[utt].fold} is in {side}"
    known = {side: [by_id[u] for u in split[side] if u in by_id] for side in SIDES}
    yield from check_tested(f"fold {fold}", known, noise_split)


def check_tested(name, known, noise_split="groups"):
    """Yield a violation for every speaker or recording of train or dev that is tested too.

    Args:
        name: of the fold. known: side -> list of its `Mixture`; noise_split: of `check_split`.
    """
    tested = {("speaker", m.speaker) for m in known["test"]}
    divided = {TALKER} if noise_split == "none" else {TALKER, NOISE}
    tested |= {
        (_GROUPS[s.kind], s.group) for m in known["test"] for s in m.sources if s.kind in divided
    }
    for side in ("train", "dev"):
        for mixture in known.get(side, ()):
            roles = [("target", "speaker", mixture.speaker)]
            roles += [(_ROLES[s.kind], _GROUPS[s.kind], s.group) for s in mixture.sources]
            for role, what, group in roles:
                if (what, group) in tested:
                    yield (
                        f"{name}: {role} {what} '{group}' of {side} mixture "
                        f"'{mixture.mixture}' is also tested"
                    )


def report(violations, limit=20):
    """Raise one `UserError` with the first ``limit`` violations, if there is any."""
    violations = list(violations)
    if violations:
        more = [f"... and {len(violations) - limit} more"] if len(violations) > limit else []
        raise UserError(f"{len(violations)} violation(s) in the data:", violations[:limit] + more)
