"""Loading front-ends: trained here, and from elsewhere, which are tried before they are used."""

import logging

import numpy as np

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.frontends.deepfilternet import DeepFilterNet
from espnet_tse_ser.frontends.espnet_model import ESPnetFrontEnd
from espnet_tse_ser.frontends.extraction import (
    Extraction,
    build_for_inference,
    extract,
    load_extraction_model,
    load_extraction_weights,
)
from espnet_tse_ser.frontends.model_files import fetch, files_of, kind_and_rate, write_record
from espnet_tse_ser.frontends.ssl_enhancement import SSLEnhancement
from espnet_tse_ser.frontends.wheel import DEEPFILTERNET
from espnet_tse_ser.models.build_tse import needs_enrollment

logger = logging.getLogger(__name__)


def load_front_end(model_dir, weights=None, device="cpu"):
    """Load a `FrontEnd`.

    Args:
        model_dir: experiment of stage 6: a training, or a record of a model from elsewhere.
        weights: of a training; default ``valid.loss.best.pth``.

    Raises:
        UserError: a file is missing, broken or changed, or the weights do not fit.
    """
    files = files_of(model_dir, weights)
    if files.record is None:
        from espnet_tse_ser.models.espnet_tse_model import ESPnetTSEModel

        model, rate = load_extraction_model(model_dir, weights)
        is_extraction = isinstance(model, ESPnetTSEModel)
        return (Extraction if is_extraction else SSLEnhancement)(model, rate, device)
    record = files.record
    return _load(files, record.source, record.kind, record.ours, record.rate, device)


def take_model(source, model_dir, data_rate, rate=None, device="cpu"):
    """Make ``model_dir`` stand for a model from elsewhere, after a try.

    Args:
        source: directory of a training or an unpacked model, a weights file with its configuration
            beside it, a packed model (zip), a name of the Hugging Face hub, or deepfilternet3.
        data_rate: of what is to be enhanced, in Hz. rate: of the model; None: as it says.

    Raises:
        UserError: it is no extraction or enhancement model of one channel that can be loaded, or is
            for another sampling rate.
    """
    files, revision = fetch(source, model_dir)
    if source == DEEPFILTERNET:
        if rate is not None:
            raise UserError(f"{source}: takes signals of any rate; leave --frontend_fs out")
        kind, ours, rate = "enh", False, data_rate
    else:
        kind, ours, rate = _inspect(source, files, data_rate, rate)
    front_end = _load(files, source, kind, ours, rate, device)
    noise = np.random.default_rng(0).standard_normal((2, rate), np.float32) / 10
    try:
        extract(front_end, noise[:1], noise[1:], names=["noise"])
    except Exception as error:  # of a network that takes other inputs
        raise UserError(
            f"{source}: does not work on one channel of speech ({type(error).__name__}: "
            f"{first_line(error)}); take another model"
        ) from error
    facts = {"source": str(source), "revision": revision, "kind": kind, "ours": ours, "rate": rate}
    write_record(model_dir, files, **facts)


def _inspect(source, files, data_rate, rate):
    """What `Record` says of a model of ESPnet's tasks: ``kind``, ``ours`` and ``rate``."""
    config = read_yaml(files.config)
    kind, rate = kind_and_rate(config, files.config, rate)
    if rate != data_rate:
        raise UserError(
            f"{source}: is a model for {rate} Hz (sample_rate of {files.config}), the data has "
            f"{data_rate} Hz; take another model, or, if it is for {data_rate} Hz all the same "
            f"(ESPnet writes 8000 where nobody said it), give --frontend_fs {data_rate}"
        )
    ours = "extractor" in config and _is_ours(config, files.config)
    if ours and not needs_enrollment(config, files.config):
        kind = "enh"
    return kind, ours, rate


def _load(files, source, kind, ours, rate, device):
    if source == DEEPFILTERNET:
        return DeepFilterNet(files.config, files.weights, rate, device)
    config = read_yaml(files.config)
    if not ours:
        return ESPnetFrontEnd(config, files.config, files.weights, kind, rate, device)
    model = build_for_inference(config, files.config)
    load_extraction_weights(model, files.weights)
    return Extraction(model, rate, device)


def _is_ours(config, path):
    """Whether this package's extractors, which are faster, have the architecture."""
    try:
        build_for_inference(config, path)
    except UserError as error:
        logger.info("ESPnet's own classes compute: %s", error)
        return False
    return True
