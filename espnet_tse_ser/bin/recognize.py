"""Stage 12: recognise the emotions of a test list with a SER or a joint model."""

import argparse
import sys

from espnet_tse_ser.errors import UserError, run


def get_parser():
    """The options of stage 12."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="SER or joint experiment")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--scp", required=True, help="audio to recognise (of a condition)")
    parser.add_argument("--feats", help="features of the audio (stage 9), for a SER experiment")
    parser.add_argument("--ids", required=True, help="list of ids, e.g. test.lst of the fold")
    parser.add_argument("--output", required=True, help="table to write (hyp.tsv)")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances at a time")
    return parser


def main(argv=None):
    """Write one line an utterance: reference, hypothesis, posteriors, extraction scores."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.data.dynamic import length_batches
    from espnet_tse_ser.data.id_list import read_ids
    from espnet_tse_ser.data.mixture_dir import MixtureDir
    from espnet_tse_ser.data.preprocessor import label_index
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.inference import TSESER
    from espnet_tse_ser.metrics.signal import signal_scores
    from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS
    from espnet_tse_ser.progress import log_to_stderr, progress

    log_to_stderr()
    model = TSESER.from_pretrained(args.model_dir)
    data = MixtureDir(args.data_dir, read_ids(args.ids), model.rate, args.scp)
    for utt in data.ids:
        label_index(utt, data.emotion(utt), model.labels)
    cache = _open_cache(args.feats, model, data) if args.feats else None
    rows = []
    for batch in progress(length_batches(data.lengths, args.batch_size), "recognize"):
        if cache is not None:
            mixtures = [cache.load(utt) for utt in batch]
        else:
            mixtures = [data.audio("mix", utt) for utt in batch]
        enrollments = [data.audio("enroll", utt) for utt in batch] if model.extracts else None
        results = model.recognize(mixtures, enrollments)
        for utt, mixture, result in zip(batch, mixtures, results, strict=True):
            row = {"id": utt, "reference": data.emotion(utt), "hypothesis": result.label}
            row |= {f"p_{label}": f"{p:.6f}" for label, p in result.probabilities.items()}
            if model.extracts:
                target = data.audio("ref", utt)
                row |= signal_scores(target, result.speech, mixture, data.interferers(utt), data.fs)
            rows.append(row)
    columns = ["id", "reference", "hypothesis", *(f"p_{label}" for label in model.labels)]
    columns += list(SIGNAL_COLUMNS) if model.extracts else []
    write_tsv(args.output, sorted(rows, key=lambda row: row["id"]), columns)


def _open_cache(directory, model, data):
    from espnet_tse_ser.ser.feature_cache import FeatureCache

    if model.extracts:
        raise UserError("--feats is for a SER experiment: a joint model extracts from audio")
    cache = FeatureCache(directory)
    cache.check_frontend(model.model.frontend)
    cache.check(data.tables["mix"])
    return cache


if __name__ == "__main__":
    sys.exit(run(main))
