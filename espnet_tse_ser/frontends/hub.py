"""The Hugging Face hub: downloads, and what it means when it refuses something."""

import contextlib
import re

from espnet_tse_ser.errors import UserError, first_line

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)  # of a repository, @revision

_NONE = (  # what the hub answers for a private one, too
    "there is no such repository or revision for this user",
    "correct the name, or log in with `hf auth login`",
)


def download(name, directory, patterns):
    """Copy files of a model repository into a directory.

    Args:
        name: ``user/name``, or ``user/name@revision``. patterns: of the files, as ``*.yaml``.

    Returns:
        the revision, the name of a commit.

    Raises:
        UserError: huggingface_hub is not installed, or there is no download: no network, no such
            repository.
    """
    with _asked(name) as (hub, repository, revision):
        revision = hub.HfApi().model_info(repository, revision=revision).sha
        hub.snapshot_download(
            repository, revision=revision, local_dir=directory, allow_patterns=patterns
        )
    return revision


def cached(name, patterns):
    """The directory in the hub's cache that has files of a model repository.

    Arguments and errors are those of `download`. What the cache has is used without a network, too.
    """
    with _asked(name) as (hub, repository, revision):
        return hub.snapshot_download(repository, revision=revision, allow_patterns=patterns)


@contextlib.contextmanager
def _asked(name):
    """huggingface_hub, the repository and the revision or None of ``name``, for a download."""
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{name}: there is no such directory or file, and to get it from the Hugging Face hub "
            "needs huggingface_hub: pip install huggingface_hub"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        yield huggingface_hub, repository, revision or None
    except Exception as error:  # of three libraries, in versions with other classes
        reason, remedy = refusal(error, dict.fromkeys((401, 403, 404), _NONE))
        raise UserError(
            f"{name}: is no directory or file here, and the download failed: {reason} "
            f"({first_line(error)}); {remedy}"
        ) from None


def refusal(error, answers):
    """Why the hub did not do what was asked, and what to do about it, from its exception.

    Classes are known by name: it raises some of requests, later of httpx, which it brings along.

    Args:
        answers: status (401: not logged in, ...) -> what is returned for it.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    response = getattr(error, "response", None)
    status = None if response is None else response.status_code
    if "LocalTokenNotFoundError" in names:
        status = 401
    if status in answers:
        return answers[status]
    if status is not None:
        return f"the hub answers with status {status}", "try again later"
    if names & {"HFValidationError", "HfUriError"}:
        return "the hub does not take this name", "correct it"
    if names & {"OfflineModeIsEnabled", "TransportError", "ConnectionError", "Timeout"}:
        return "the hub cannot be reached", "run it again where there is a network"
    return type(error).__name__, "try again later"
