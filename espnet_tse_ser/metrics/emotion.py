"""Measures of emotion recognition, from label sequences or from confusion matrices.

A class that is absent from the references has no accuracy: UA is the mean over the classes that
the references hold (scikit-learn's ``balanced_accuracy_score``). Macro-F1 is the mean over the
classes that occur in the references or the hypotheses (``f1_score(average="macro")``); a class
that is only hypothesised counts with F1 = 0.
"""

import numpy as np


def confusion_matrix(references, hypotheses, labels):
    """Count label pairs.

    Args:
        references: true labels, a sequence of N.
        hypotheses: recognised labels, a sequence of N.
        labels: all classes, in the order of the rows and columns.

    Returns:
        ``(K, K)`` int64: row = reference, column = hypothesis.

    Raises:
        ValueError: lengths differ, ``labels`` repeats a class, or a label is not among them.

    >>> confusion_matrix(["ang", "sad"], ["ang", "ang"], ["ang", "sad"]).tolist()
    [[1, 0], [1, 0]]
    """
    index = {label: number for number, label in enumerate(labels)}
    if len(index) != len(labels):
        raise ValueError(f"a class is given twice in {list(labels)}")
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    unknown = sorted({*references, *hypotheses} - index.keys())
    if unknown:
        raise ValueError(f"label(s) {', '.join(map(str, unknown))} not among {list(labels)}")
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        matrix[index[reference], index[hypothesis]] += 1
    return matrix


def wa(references, hypotheses, labels):
    """Weighted accuracy: the share of correct utterances, 0 to 1 (NaN for no utterance)."""
    return float(wa_of(confusion_matrix(references, hypotheses, labels)))


def ua(references, hypotheses, labels):
    """Unweighted accuracy: the mean of the class accuracies, 0 to 1 (NaN for no utterance)."""
    return float(ua_of(confusion_matrix(references, hypotheses, labels)))


def macro_f1(references, hypotheses, labels):
    """Unweighted mean of the classes' F1 scores, 0 to 1 (NaN for no utterance)."""
    return float(macro_f1_of(confusion_matrix(references, hypotheses, labels)))


def wa_of(confusion):
    """WA ``(...)`` of confusion matrices ``(..., K, K)``."""
    confusion = np.asarray(confusion, np.float64)
    return _divide(_diagonal(confusion).sum(-1), confusion.sum((-2, -1)))


def ua_of(confusion):
    """UA ``(...)`` of confusion matrices ``(..., K, K)``."""
    confusion = np.asarray(confusion, np.float64)
    return _mean_of_defined(_divide(_diagonal(confusion), confusion.sum(-1)))


def macro_f1_of(confusion):
    """Macro-F1 ``(...)`` of confusion matrices ``(..., K, K)``."""
    confusion = np.asarray(confusion, np.float64)
    occurrences = confusion.sum(-1) + confusion.sum(-2)
    return _mean_of_defined(_divide(2 * _diagonal(confusion), occurrences))


def _diagonal(confusion):
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _divide(numerator, denominator):
    result = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def _mean_of_defined(values):
    """Mean over the last axis of the values that are not NaN (NaN where all are)."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1))
