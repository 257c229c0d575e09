"""WA, UA, macro-F1 and confusion matrices against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from espnet_tse_ser.metrics.emotion import (
    confusion_matrix,
    macro_f1,
    macro_f1_of,
    ua,
    ua_of,
    wa,
    wa_of,
)

LABELS = ["ang", "hap", "neu", "sad"]


def draw(seed, labels=LABELS, size=60):
    rng = np.random.default_rng(seed)
    references = rng.choice(labels, size)
    hypotheses = np.where(rng.random(size) < 0.5, references, rng.choice(LABELS, size))
    return references.tolist(), hypotheses.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_measures_equal_scikit_learn(seed):
    references, hypotheses = draw(seed, size=5 + 10 * seed)
    expected = sklearn.accuracy_score(references, hypotheses)
    assert wa(references, hypotheses, LABELS) == pytest.approx(expected, abs=1e-12)
    expected = sklearn.f1_score(references, hypotheses, average="macro")
    assert macro_f1(references, hypotheses, LABELS) == pytest.approx(expected, abs=1e-12)
    expected = sklearn.confusion_matrix(references, hypotheses, labels=LABELS)
    np.testing.assert_array_equal(confusion_matrix(references, hypotheses, LABELS), expected)
    if set(references) == set(LABELS):
        expected = sklearn.balanced_accuracy_score(references, hypotheses)
        assert ua(references, hypotheses, LABELS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_class_absent_from_the_references():
    references, hypotheses = draw(0, labels=["ang", "neu", "sad"])
    assert "hap" in hypotheses
    expected = sklearn.balanced_accuracy_score(references, hypotheses)
    assert ua(references, hypotheses, LABELS) == pytest.approx(expected, abs=1e-12)
    expected = sklearn.f1_score(references, hypotheses, average="macro", labels=LABELS)
    assert macro_f1(references, hypotheses, LABELS) == pytest.approx(expected, abs=1e-12)
    # absent from both: it does not count at all
    assert macro_f1(["ang", "neu"], ["ang", "neu"], LABELS) == 1.0
    assert ua(["ang", "neu"], ["ang", "ang"], LABELS) == 0.5


def test_perfect_wrong_and_empty():
    assert [m(LABELS, LABELS, LABELS) for m in (wa, ua, macro_f1)] == [1.0, 1.0, 1.0]
    assert [m(["ang"], ["sad"], LABELS) for m in (wa, ua, macro_f1)] == [0.0, 0.0, 0.0]
    assert np.isnan([m([], [], LABELS) for m in (wa, ua, macro_f1)]).all()


def test_stored_value():
    references = ["ang"] * 6 + ["sad"] * 2
    hypotheses = ["ang"] * 6 + ["ang", "sad"]
    assert wa(references, hypotheses, LABELS) == 7 / 8
    assert ua(references, hypotheses, LABELS) == 3 / 4
    assert macro_f1(references, hypotheses, LABELS) == pytest.approx((12 / 13 + 2 / 3) / 2)


def test_measures_of_many_matrices_at_once():
    matrices = np.stack([confusion_matrix(*draw(seed), LABELS) for seed in range(6)])
    for measure, measure_of in ((wa, wa_of), (ua, ua_of), (macro_f1, macro_f1_of)):
        expected = [measure(*draw(seed), LABELS) for seed in range(6)]
        np.testing.assert_array_equal(measure_of(matrices), expected)
        assert measure_of(matrices.reshape(2, 3, 4, 4)).shape == (2, 3)


def test_invalid_labels():
    with pytest.raises(ValueError, match="fear, joy not among"):
        wa(["joy"], ["fear"], LABELS)
    with pytest.raises(ValueError, match="2 references but 1 hypotheses"):
        wa(["ang", "sad"], ["ang"], LABELS)
    with pytest.raises(ValueError, match="given twice"):
        wa(["ang"], ["ang"], ["ang", "ang"])
