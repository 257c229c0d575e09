"""What extracted speech is worth: the one place that scores it."""

from espnet_tse_ser.metrics.signal import quality_scores, signal_scores


def score(data, utt, estimate, with_stoi=True):
    """`signal_scores` of what was extracted of a mixture.

    Args:
        data: `MixtureSet` that has the mixture ``utt``. estimate: ``(num_samples,)``.
        with_stoi: see `signal_scores`.
    """
    target, mixture = data.audio("ref", utt), data.audio("mix", utt)
    return signal_scores(target, estimate, mixture, data.interferers(utt), data.fs, with_stoi)


def score_front_end(data, utt, estimate, with_pesq=False):
    """`score`, and `quality_scores`; arguments as of both."""
    target, mixture = data.audio("ref", utt), data.audio("mix", utt)
    signals = target, estimate, mixture
    scores = signal_scores(*signals, data.interferers(utt), data.fs)
    return scores | quality_scores(*signals, data.fs, with_pesq)
