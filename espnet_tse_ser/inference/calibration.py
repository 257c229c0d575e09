"""What makes the outputs of a model probabilities, fitted on mixtures of dev.

The probabilities of the emotions get a temperature (Guo et al., "On calibration of modern neural
networks", ICML 2017), which changes no label. That the target is in the mixture at all is a
logistic regression on `evidence`. Both are in ``calibration.json`` beside the weights they are of.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import checksum, read_json, to_json
from espnet_tse_ser.inference.evidence import FEATURES
from espnet_tse_ser.inference.model_source import CALIBRATION
from espnet_tse_ser.values.kinds import Mapping, Text, check_options
from espnet_tse_ser.values.numbers import Number

LEAST_PRESENT = 0.5  # below, a result gets a warning

_TEMPERATURES = 0.05, 20.0
_RIDGE = 1e-2  # of the weights of standardized features, against the mean loss


@dataclass(frozen=True)
class Calibration:
    """What ``calibration.json`` says.

    Args:
        weights: checksum of those that it is of. temperature: of the emotions. presence: bias and
            weights of the logistic regression. fitted_on: what it was fitted on, and what it is
            worth there.
    """

    weights: Text()
    temperature: Number(*_TEMPERATURES)
    presence: Mapping()
    fitted_on: Mapping()

    def target_present(self, evidence):
        """Probabilities that the target is in the mixture, a list.

        Args:
            evidence: ``(N, len(FEATURES))``.
        """
        weights = [self.presence[name] for name in FEATURES]
        return _sigmoid(np.asarray(evidence) @ weights + self.presence["bias"]).tolist()


def read_calibration(directory, weights):
    """The `Calibration` beside the weights of a model, or None if there is none.

    Raises:
        UserError: it is damaged, or was fitted to other weights.
    """
    path = Path(directory) / CALIBRATION
    if not path.is_file():
        return None
    found = read_json(path)
    if isinstance(found, dict) and "presence_with_voice" in found:
        raise UserError(
            f"{path}: is of an older version; run `tse-ser calibrate` again, or remove "
            "it (then nothing says whether the target is there)"
        )
    found = check_options(found, Calibration, path)
    kinds = dict.fromkeys(("bias", *FEATURES), Number(-(10**6), 10**6))
    found["presence"] = check_options(found["presence"], kinds, f"{path}: presence")
    missing = [name for name in kinds if name not in found["presence"]]
    if missing:
        raise UserError(
            f"{path}: presence has no {missing[0]}; run `tse-ser calibrate` again, or remove it"
        )
    if found["weights"] != checksum(weights):
        raise UserError(
            f"{path}: was fitted to other weights than {weights}; run `tse-ser calibrate` again, "
            "or remove it"
        )
    return Calibration(**found)


def to_bytes(calibration):
    """A `Calibration` as the file has it."""
    return (to_json(asdict(calibration), CALIBRATION, indent=1) + "\n").encode()


def temper(probabilities, temperature):
    """Probabilities as they would be with their logits divided by a temperature.

    Args:
        probabilities: ``(N, C)``. temperature: a number, or ``(N,)``.

    >>> temper([[0.8, 0.2]], 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    scaled = _logits(probabilities) / np.asarray(temperature)[..., None]
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities, reference):
    """The temperature with which the probabilities of what was right are highest.

    The mean of their logarithms is concave in 1 / temperature, so that its derivative has one zero.

    Args:
        probabilities: ``(N, C)``. reference: the right classes, ``(N,)`` whole numbers.

    Returns:
        within 0.05 to 20.
    """
    logits = _logits(probabilities)
    right = logits[np.arange(len(logits)), reference].mean()
    low, high = (1 / t for t in _TEMPERATURES[::-1])
    for _ in range(60):
        middle = np.sqrt(low * high)
        expected = (temper(probabilities, 1 / middle) * logits).sum(axis=1).mean()
        low, high = (middle, high) if expected < right else (low, middle)
    return float(1 / np.sqrt(low * high))


def nll(probabilities, reference):
    """Mean negative logarithm of the probabilities of what was right; see `fit_temperature`."""
    return float(-_logits(probabilities)[np.arange(len(reference)), reference].mean())


def fit_presence(evidence, present, weights):
    """Fit the logistic regression by Newton's method, with a ridge for what can be separated.

    Args:
        evidence: ``(N, len(FEATURES))``. present: ``(N,)`` bool. weights: ``(N,)`` of each.

    Returns:
        `Calibration.presence`.
    """
    share = np.asarray(weights, np.float64) / np.sum(weights)
    center = share @ evidence
    scale = np.sqrt(share @ np.square(evidence - center)) + 1e-6
    x = np.concatenate([(evidence - center) / scale, np.ones((len(share), 1))], axis=1)
    ridge = np.diag([_RIDGE] * len(FEATURES) + [0.0])
    found = np.zeros(x.shape[1])
    for _ in range(50):
        p = _sigmoid(x @ found)
        slope = x.T @ (share * (p - present)) + ridge @ found
        found -= np.linalg.solve((x.T * (share * p * (1 - p))) @ x + ridge, slope)
    slopes = found[:-1] / scale
    values = (found[-1] - slopes @ center, *slopes)
    return dict(zip(("bias", *FEATURES), map(float, values), strict=True))


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def _logits(probabilities):
    return np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-300))
