"""The extractor compiled by `torch.compile`, for trainings on GPUs.

Nothing of it is in a checkpoint or in what a checkpoint is used for: names and values of weights
are those of the module that is compiled.
"""

import contextlib
import shutil

from espnet2.enh.extractor.abs_extractor import AbsExtractor

from espnet_tse_ser.errors import UserError

_COMPILERS = ("cc", "gcc", "clang")


def check_compile(wanted, device):
    """Refuse what cannot be compiled.

    Args:
        wanted: value of the option ``compile``; device: "cpu" or "cuda".

    Raises:
        UserError: it is for a CPU, or there is no C compiler.
    """
    if not wanted:
        return
    if device == "cpu":
        raise UserError(
            "compile: true is for GPUs: on a CPU TD-SpeakerBeam's blocks are computed by hand "
            "(frontends/td_speakerbeam/cpu_block.py), which torch.compile cannot take and need "
            "not; give false"
        )
    if not any(shutil.which(name) for name in _COMPILERS):
        raise UserError(
            f"compile: true needs a C compiler ({', '.join(_COMPILERS)}) and none is in PATH; "
            "install one or give false"
        )


@contextlib.contextmanager
def compiled_extractors(model, wanted, **options):
    """Let the extractors in ``model`` be compiled in the body, if ``wanted``.

    Lengths of batches stay open, or each would be compiled anew.

    Args:
        options: of `torch.compile`.

    Raises:
        UserError: there is none.
    """
    extractors = [m for m in model.modules() if isinstance(m, AbsExtractor)] if wanted else []
    if wanted and not extractors:
        raise UserError("compile: true compiles the extractor, and this model has none; give false")
    for extractor in extractors:
        extractor.compile(dynamic=True, **options)
    try:
        yield
    finally:
        for extractor in extractors:
            extractor._compiled_call_impl = None  # what Module.compile has set; no public undo
