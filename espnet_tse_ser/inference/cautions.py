"""What speaks against trusting a result."""

from espnet_tse_ser.audio.quality import remarks, remarks_on
from espnet_tse_ser.inference.calibration import LEAST_PRESENT


def cautions(model, quality, name, enrollments=(), present=()):
    """The warnings of a result, a sentence each.

    Args:
        model: `TSESER`. quality: `Quality` of the recording; name: of it.
        enrollments: samples ``(num_samples,)`` or ``(num_samples, num_channels)``, their rate and
            the name, of each; present: the probabilities that the target is there, of the parts of
            the recording that were recognised, None where the model does not tell.
    """
    found = remarks(quality, "mixture", name, model.rate)
    if model.needs_enrollment:
        found += remarks_on(enrollments, "enrollment", model.rate)
    known = [probability for probability in present if probability is not None]
    if known and max(known) < LEAST_PRESENT:
        most = f"with a probability of {max(known):.2f}" + " at most" * (len(present) > 1)
        found.append(f"target may be missing: it is there {most} ({name})")
    return found
