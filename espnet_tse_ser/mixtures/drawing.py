"""Drawing the mixture table: a mixture for every emotional utterance."""

from collections import defaultdict

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE, TALKER
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.mixing import amplitude, draw_gains, draw_placed, overlap, snr
from espnet_tse_ser.mixtures.sources import GENDER_STATES, draw_sources, group_folds
from espnet_tse_ser.mixtures.table import CLEAN, NONE, Mixture, Source


def draw_mixtures(
    targets,
    sources,
    levels,
    seed,
    num_sources=1,
    gender_state="random",
    neutral="neu",
    every_level=False,
    noise_split="groups",
):
    """Draw one mixture for every emotional utterance, or one at every level.

    Args:
        targets: `Pool`, with emotions and folds.
        sources: `Pool` of talkers or noise, or None: every mixture is its target. The targets
            themselves are the talkers where it is the same pool: other speakers of the target's
            fold, so that nobody crosses the line between training and test.
        levels: `Levels`. seed: of all draws; each mixture depends on it and its own id order.
        num_sources: of each mixture (but those at the level "clean"), of different groups.
        gender_state: of the mixtures: "random", "same" or "different".
        neutral: the label of the enrollment utterances; None: no enrollments.
        every_level: a mixture of each utterance at each level of the set, which differ in that
            alone, instead of one at a level that is drawn.
        noise_split: see `group_folds`.

    Returns:
        list of `Mixture` in the order of the utterances.

    Raises:
        UserError: groups in both pools, no source to choose from, no enrollment.
    """
    _check(targets, sources, seed, num_sources, gender_state, noise_split)
    fold_of = group_folds(targets, sources, seed, noise_split) if num_sources else {}
    enrollments = {} if neutral is None else enrollment_choices(targets, neutral)
    mixtures = []
    for index, (utt, entry) in enumerate(targets.entries.items()):
        rng = np.random.default_rng([seed, 2, index])
        drawn = levels.every() if every_level else [levels.draw(rng)]
        count = 0 if all(level == CLEAN for level, _ in drawn) else num_sources
        chosen = draw_sources(rng, sources, fold_of, entry, count, gender_state) if count else []
        others = [sources[o] for o in chosen]
        placed = [
            draw_placed(rng, sources.audio(o.utt), entry.num_samples, o.lufs, o.kind)
            for o in others
        ]
        before, gains_at = rng.bit_generator.state, {}
        for level, levels_here in drawn:
            rng.bit_generator.state = before  # the same loudness at every level
            here = 0 if level == CLEAN else count
            signals = [targets.audio(utt), *(signal for _, signal in placed[:here])]
            lufs = [entry.lufs, *(o.lufs for o in others[:here])]
            try:
                gains_at[level] = draw_gains(rng, levels_here, signals[0], signals[1:], lufs)
            except UserError as error:
                raise UserError(f"mixture '{utt}' with {', '.join(chosen)}: {error}") from None
        enrollment = (str(rng.choice(enrollments[utt])),) if enrollments else ()
        for level, gains in gains_at.items():
            here = 0 if level == CLEAN else count
            mixtures.append(
                describe(
                    entry,
                    others[:here],
                    [targets.audio(utt), *(signal for _, signal in placed[:here])],
                    offsets=[offset for offset, _ in placed[:here]],
                    gains=gains,
                    enrollment=enrollment,
                    seed=seed,
                    level=level,
                    mixture=level_id(utt, level) if every_level else utt,
                )
            )
    return mixtures


def level_id(utt, level):
    """Id of the mixture of an utterance at one of several levels.

    >>> level_id("a1", "clean"), level_id("a1", "-5")
    ('a1_clean', 'a1_snr-5')
    """
    return f"{utt}_{level}" if level == CLEAN else f"{utt}_snr{level}"


def describe(
    target, sources, signals, *, offsets, gains, enrollment, seed, mixture=None, **further
):
    """The `Mixture` of what was drawn: fills in all that follows from it.

    Args:
        target: its `Entry`. sources: list of theirs.
        signals: before their gains, all of the mixture's length, the target's first.
        offsets: of the sources. gains: the target's first. enrollment: ids.
        mixture: its id; None: that of the target.
        further: ``tail``, ``enrollment_samples``, ``level``.
    """
    scaled = [amplitude(g) * s for g, s in zip(gains, signals, strict=True)]
    talkers = [(s, offset) for s, offset in zip(sources, offsets, strict=True) if s.kind == TALKER]
    lengths = [s.num_samples for s, _ in talkers]
    covered = overlap([offset for _, offset in talkers], lengths, target.num_samples)
    genders = {s.gender for s, _ in talkers}
    state = "same" if genders == {target.gender} else "different" if genders else NONE
    return Mixture(
        mixture=mixture or target.utt,
        target=target.utt,
        speaker=target.speaker,
        gender=target.gender,
        emotion=target.emotion,
        gain_db=gains[0],
        sources=tuple(map(_source, sources, gains[1:], offsets)),
        snr_db=round(snr(scaled[0], scaled[1:]), 4) if sources else None,
        overlap=1.0 if any(s.kind == NOISE for s in sources) else round(covered, 4),
        gender_state=state,
        enrollment=tuple(enrollment),
        fold=target.fold,
        seed=seed,
        **further,
    )


def enrollment_choices(targets, neutral="neu"):
    """For each utterance of the pool, the neutral utterances of its speaker apart from itself.

    Raises:
        UserError: there is none.
    """
    neutral_of = defaultdict(list)
    for utt, entry in targets.entries.items():
        if entry.emotion == neutral:
            neutral_of[entry.speaker].append(utt)
    choices = {}
    for utt, entry in targets.entries.items():
        choices[utt] = [u for u in neutral_of[entry.speaker] if u != utt]
        if not choices[utt]:
            raise UserError(
                f"target '{utt}': speaker '{entry.speaker}' has no other '{neutral}' utterance to "
                f"enroll with; drop the speaker, call what is neutral '{neutral}' in utt2emo, or "
                "mix without enrollments (--enrollment false in a recipe)"
            )
    return choices


def _source(entry, gain, offset):
    traits = {"gender": entry.gender, "emotion": entry.emotion or NONE}
    traits = traits if entry.kind == TALKER else {}
    return Source(entry.kind, entry.utt, entry.group, gain, offset, **traits)


def _check(targets, sources, seed, num_sources, gender_state, noise_split):
    if gender_state not in GENDER_STATES:
        raise UserError(
            f"--gender_state must be one of {', '.join(GENDER_STATES)}, got '{gender_state}'"
        )
    if num_sources < 0 or seed < 0:
        raise UserError(f"--num_sources {num_sources} --seed {seed}: at least 0 wanted")
    if num_sources and sources is None:
        raise UserError(f"--num_sources {num_sources}: there is no pool of them; give --sources")
    if noise_split == "none" and (sources is None or sources.kind != NOISE):
        raise UserError("--noise_split none: the sources are no noise; leave it out")
    for trait, table in (("emotion", "utt2emo"), ("fold", "utt2fold")):
        for entry in targets.entries.values():
            if getattr(entry, trait) is None:
                raise UserError(
                    f"target '{entry.utt}' has no {trait}: there is no {targets.name}/{table}; "
                    f"let local/data.sh make data/emo/{table} and run stage 1 again"
                )
    if sources is None or sources is targets:
        return
    if sources.kind == NOISE and gender_state != "random":
        raise UserError(f"--gender_state {gender_state}: noise has no gender; leave it out")
    shared = sorted(set(targets.by_group) & set(sources.by_group))
    if shared and sources.kind == TALKER:
        raise UserError(f"speaker(s) {', '.join(shared)} are targets and interferers; remove one")
