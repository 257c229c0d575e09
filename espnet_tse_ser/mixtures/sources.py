"""Which sources disturb a target: their groups split by fold, and drawn from the target's fold."""

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.mixing import draw_gains, draw_placed, mix
from espnet_tse_ser.mixtures.splits import fold_of_speakers

GENDER_STATES = ("random", "same", "different")


def group_folds(targets, sources, seed, noise_split="groups"):
    """The fold of every group (speaker, recording) of the sources: its own or a drawn one.

    Targets that disturb each other have their folds, and so has noise whose corpus has some.

    Args:
        targets: `Pool`. sources: `Pool`, the same one for targets that disturb each other.
        noise_split: "none": noise (not talkers) is in all folds, as in TRNet's code.

    Returns:
        dict group -> fold, or None: all.

    Raises:
        UserError: a group cannot be in one fold, or a fold would have none.
    """
    if sources is targets:
        return fold_of_speakers(targets.entries.values(), "loso")
    folds = sorted({entry.fold for entry in targets.entries.values()})
    if sources.kind == NOISE and noise_split == "none":
        return dict.fromkeys(sources.by_group)
    if sources.kind == NOISE and any(e.fold is not None for e in sources.entries.values()):
        return _own_folds(sources, folds)
    return drawn_folds(sources, folds, seed)


def drawn_folds(sources, folds, seed):
    """Split the groups of sources by fold, speakers of each gender evenly.

    Returns:
        dict group -> fold.

    Raises:
        UserError: there are fewer recordings, or speakers of a gender, than folds.
    """
    rng = np.random.default_rng([seed, 1])
    assignment = {}
    for gender in sorted(set(sources.gender.values()), key=str):
        groups = sorted(group for group, g in sources.gender.items() if g == gender)
        if len(groups) < len(folds):
            what, more = f"interferer speaker(s) of gender '{gender}'", "interferer speakers"
            if sources.kind == NOISE:
                what, more = "recording(s) of noise", "noise"
            raise UserError(
                f"{len(groups)} {what} cannot be split over {len(folds)} folds; add {more}"
            )
        for index, group in enumerate(rng.permutation(groups)):
            assignment[str(group)] = folds[index % len(folds)]
    return assignment


def draw_sources(rng, sources, fold_of, entry, count, gender_state="random", taken=()):
    """Draw ``count`` recordings of different groups of the target's fold.

    Every talker is as likely as another of the gender that is drawn before; every recording of
    noise as another.

    Args:
        sources: `Pool`. fold_of: from `group_folds`.
        entry: of the target, whose speaker is never drawn.
        taken: further groups that are not to be drawn.

    Returns:
        list of ids.

    Raises:
        UserError: there is none left.
    """
    if sources.kind == NOISE:
        groups = [g for g in fold_of if fold_of[g] in (None, entry.fold) and g not in taken]
        if count > len(groups):
            raise UserError(
                f"target '{entry.utt}': {count} recording(s) of noise cannot be drawn from the "
                f"{len(groups)} of fold '{entry.fold}'; add noise or take fewer sources"
            )
        return list(draw_noise(rng, sources, count, groups))
    taken, chosen = {entry.speaker, *taken}, []
    for _ in range(count):
        free = sorted(s for s in fold_of if fold_of[s] == entry.fold and s not in taken)
        chosen.append(_draw_talker(rng, sources, free, fold_of, entry, gender_state))
        taken.add(sources[chosen[-1]].speaker)
    return chosen


def disturb(rng, levels, target, lufs, sources, chosen):
    """Draw places and gains of sources and mix them with a target.

    Args:
        levels: `Levels`. target: ``(num_samples,)``; lufs: its loudness.
        sources: `Pool`. chosen: iterable of ids in it, maybe none.

    Returns:
        the mixture ``(num_samples,)``; a list of what is in it, the target first, each the same;
        and a list of the ids of the sources.
    """
    placed, lufs, utts = [], [lufs], []
    for utt in chosen:
        utts.append(utt)
        entry, audio = sources[utt], sources.audio(utt)
        lufs.append(entry.lufs)
        placed.append(draw_placed(rng, audio, len(target), entry.lufs, entry.kind)[1])
    mixture, scaled = mix(target, placed, draw_gains(rng, levels, target, placed, lufs))
    return mixture, scaled, utts


def draw_noise(rng, noise, count, groups):
    """Yield ids of ``count`` recordings, each as likely, of different ones of ``groups``."""
    groups = set(groups)
    for _ in range(count):
        utt = str(rng.choice([utt for group in sorted(groups) for utt in noise.by_group[group]]))
        groups.discard(noise[utt].group)
        yield utt


def _draw_talker(rng, talkers, free, fold_of, entry, gender_state):
    wanted = {
        "random": ["m", "f"],
        "same": [entry.gender],
        "different": [g for g in ("m", "f") if g != entry.gender],
    }[gender_state]
    genders = [g for g in wanted if any(talkers.gender[s] == g for s in free)]
    if not genders:
        remedy = "add interferer speakers or take fewer interferers"
        if entry.speaker in fold_of:
            members = " ".join(sorted(s for s in fold_of if fold_of[s] == entry.fold))
            remedy = (
                "interferers are other target speakers of that fold, which has only "
                f"{members}: make larger folds, take another gender_state or other interferers"
            )
        raise UserError(
            f"target '{entry.utt}': no interferer speaker of gender '{' or '.join(wanted)}' is "
            f"left in fold '{entry.fold}'; {remedy}"
        )
    gender = str(rng.choice(genders))
    speaker = str(rng.choice([s for s in free if talkers.gender[s] == gender]))
    return str(rng.choice(talkers.by_group[speaker]))


def _own_folds(noise, folds):
    """The folds that the corpus of the noise has, which must be those of the targets."""
    fold_of = {}
    for e in noise.entries.values():
        if e.fold is None or fold_of.setdefault(e.group, e.fold) != e.fold:
            raise UserError(
                f"noise '{e.utt}': recording '{e.group}' is in fold '{e.fold}' here and in fold "
                f"'{fold_of.get(e.group)}' before; correct utt2fold"
            )
    without = [fold for fold in folds if fold not in fold_of.values()]
    if without:
        raise UserError(
            f"no noise is in fold {', '.join(without)} of the targets: its utt2fold has "
            f"{' '.join(sorted(set(fold_of.values())))}; correct it, or remove it to have the "
            "recordings of noise split by folds"
        )
    return fold_of
