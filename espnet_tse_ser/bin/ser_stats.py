"""Stage 9: statistics of the front-end's features over the training utterances of each fold."""

import argparse
import functools
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import atomic_path
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.recognise.pretrained import add_encoder_option, with_encoder

logger = logging.getLogger(__name__)


def get_parser():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="configuration of the SER training")
    parser.add_argument("--scp", required=True, help="audio of one condition, all folds")
    parser.add_argument("--feats", help="features of the audio (ser_features), if there are any")
    add_encoder_option(parser)
    parser.add_argument("--splits", required=True, help="directory with fold<k>/train.lst")
    parser.add_argument("--output_dir", required=True, help="gets fold<k>/feats_stats.npz")
    add_options(parser)
    return parser


def main(argv=None):
    """Write ``feats_stats.npz`` (ESPnet's format: count, sum, sum_square) of every fold.

    A configuration without ``normalize: global_mvn`` needs none; then nothing is written.
    """
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.audio.id_list import read_ids, select
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.models.build_ser import build_frontend
    from espnet_tse_ser.tasks.options import parse_task_options
    from espnet_tse_ser.tasks.ser import SERTask

    options = parse_task_options(SERTask, ["--config", args.config])
    if options.normalize != "global_mvn":
        logger.info("%s: no global_mvn, so no statistics are needed", args.config)
        return
    options.frontend_conf = with_encoder(vars(options), args.encoder, args.config)
    lists = sorted(Path(args.splits).glob("fold*/train.lst"))
    if not lists:
        raise UserError(f"{args.splits}: has no fold*/train.lst; run stage 2")
    folds = {path.parent.name: read_ids(path) for path in lists}
    ids = sorted({i for fold_ids in folds.values() for i in fold_ids})
    wavs = select(read_table(args.scp), ids, args.scp)
    frontend = build_frontend(vars(options), args.config).eval()
    if args.feats is None:
        device = set_up(args)
        features = functools.partial(_features, frontend.to(device), wavs, options.fs, device)
    else:
        features = _open_cache(args.feats, frontend, wavs).load
    # Folds share most of their utterances: each is read once.
    sums = {i: _sums(features(i)) for i in progress(ids, "features")}
    for fold, fold_ids in folds.items():
        _write_stats(Path(args.output_dir) / fold / "feats_stats.npz", [sums[i] for i in fold_ids])
    logger.info("%s: %d utterances, %d folds", args.output_dir, len(ids), len(folds))


def _features(frontend, wavs, fs, device, utt):
    """Features ``(frames, size)`` of an utterance."""
    import torch

    from espnet_tse_ser.audio.reading import read_mono

    speech = torch.from_numpy(read_mono(wavs[utt], fs))[None].to(device)
    with torch.no_grad():
        feats, num_frames = frontend(speech, torch.tensor([speech.shape[1]], device=device))
    return feats[0, : num_frames[0]].cpu().numpy()


def _open_cache(directory, frontend, wavs):
    from espnet_tse_ser.recognise.feature_cache import FeatureCache

    cache = FeatureCache(directory)
    cache.check_frontend(frontend)
    cache.check(wavs)
    return cache


def _sums(feats):
    """Frames, sum and sum of squares of features ``(frames, size)``."""
    import torch

    feats = torch.from_numpy(feats).double()
    return len(feats), feats.sum(0).numpy(), feats.square().sum(0).numpy()


def _write_stats(path, sums):
    import numpy as np

    count, total, total_square = (sum(parts) for parts in zip(*sums, strict=True))
    with atomic_path(path) as temporary:
        np.savez(temporary, count=count, sum=total, sum_square=total_square)


if __name__ == "__main__":
    sys.exit(run(main))
