"""Stage 10: embeddings that a trained recogniser has, for others to be trained towards."""

import argparse
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.values.numbers import COUNT


def get_parser():
    """The options of a teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="SER experiment: the teacher")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--scp", required=True, help="audio to embed (of a condition)")
    parser.add_argument("--split", required=True, help="directory with train.lst and dev.lst")
    parser.add_argument(
        "--output_dir", required=True, help="gets embeddings.scp, and what the teacher has seen"
    )
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="utterances at a time")
    add_options(parser)
    return parser


def main(argv=None):
    """Embed the training and dev utterances of a fold."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.id_list import read_ids
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.inference.recognition import embed_set
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.training.teacher import check_teacher, seen_by, write_embeddings

    log_to_stderr()
    device = set_up(args)
    model = TSESER.from_pretrained(args.model_dir, device=device)
    if model.inputs != ("speech",):
        raise UserError(
            f"{args.model_dir}: recognises from {', '.join(model.inputs)}; a teacher recognises "
            "from speech alone"
        )
    seen = seen_by(args.model_dir)
    check_teacher(seen, args.split, args.model_dir)
    ids = [i for part in ("train", "dev") for i in read_ids(Path(args.split) / f"{part}.lst")]
    ids = sorted(dict.fromkeys(ids))
    data = MixtureDir(args.data_dir, ids, model.rate, scp=args.scp)
    write_embeddings(args.output_dir, embed_set(model, data, args.batch_size), seen)
    logging.info("%s: %d embeddings", args.output_dir, len(ids))


if __name__ == "__main__":
    sys.exit(run(main))
