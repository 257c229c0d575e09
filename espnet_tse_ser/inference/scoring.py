"""What extracted speech is worth: the one place that scores it."""

from espnet_tse_ser.metrics.signal import signal_scores


def score(data, utt, estimate, with_stoi=True):
    """`signal_scores` of what was extracted of a mixture.

    Args:
        data: `MixtureSet` that has the mixture ``utt``. estimate: ``(num_samples,)``.
        with_stoi: see `signal_scores`.
    """
    target, mixture = data.audio("ref", utt), data.audio("mix", utt)
    return signal_scores(target, estimate, mixture, data.interferers(utt), data.fs, with_stoi)
