"""Trials with the target, without it and with another's enrollment: who is in them."""

import numpy as np
import pytest

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.trials import (
    ABSENT,
    CONDITIONS,
    PRESENT,
    WRONG,
    draw_trials,
    signals_of,
)
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.table import read_mixtures


@pytest.fixture(scope="module")
def mixtures(tiny_mixtures):
    ids = set(read_ids(tiny_mixtures / "table/splits/fold1/test.lst"))
    found = read_mixtures(tiny_mixtures / "mix/mixtures.tsv")
    return [mixture for mixture in found if mixture.mixture in ids]


def test_who_is_in_them(mixtures):
    trials = draw_trials(mixtures, draws=3, seed=1)
    assert trials == draw_trials(mixtures, draws=3, seed=1) != draw_trials(mixtures, 3, seed=2)
    counts = {name: sum(t.condition == name for t in trials) for name in CONDITIONS}
    n = len(mixtures)
    assert counts == {PRESENT: n, WRONG: 3 * n, ABSENT: 3 * n}
    by_id = {mixture.mixture: mixture for mixture in mixtures}
    for trial in trials:
        mixture = by_id[trial.utt]
        inside = {mixture.speaker, *(s.group for s in mixture.sources)}
        assert (trial.other is None) or trial.other.speaker not in inside
        assert (trial.condition == WRONG) <= (trial.other is not None)
        if trial.condition == WRONG:
            same = trial.other.gender == mixture.gender
            assert trial.gender_state == ("same" if same else "different")
    wrong = [t for t in trials if t.condition == WRONG]
    assert {t.gender_state for t in wrong} == {"same", "different"}
    assert {t.other.number for t in wrong} == {None, 0}
    alone = sum(t.other is None for t in trials if t.condition == ABSENT)
    assert 0.15 < alone / counts[ABSENT] < 0.55  # a third


def test_their_signals(mixtures, tiny_mixtures):
    data = MixtureDir(tiny_mixtures / "mix", [m.mixture for m in mixtures], scored=True)
    for trial in draw_trials(mixtures, draws=1):
        mixture, enrollment = signals_of(data, trial)
        assert mixture.dtype == np.float32 and len(mixture) == data.lengths[trial.utt]
        whole, target = data.audio("mix", trial.utt), data.audio("ref", trial.utt)
        own = data.audio("enroll", trial.utt)
        if trial.condition != ABSENT:
            assert np.array_equal(mixture, whole)
            assert np.array_equal(enrollment, own) == (trial.condition == PRESENT)
            continue
        assert np.array_equal(enrollment, own)
        rest = sum(data.interferers(trial.utt))
        if trial.other is None:
            np.testing.assert_array_equal(mixture, rest.astype(np.float32))
        else:
            assert np.abs(mixture - rest).max() > 1e-3
        assert np.abs(mixture - rest - target).max() > 1e-3
        assert np.array_equal(mixture, signals_of(data, trial)[0])


def test_nobody_else(mixtures):
    with pytest.raises(UserError, match="there is nobody in the set who is not in it, to be enr"):
        draw_trials(mixtures[:1])
