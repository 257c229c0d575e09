"""Stage 12: recognise the emotions of a test list with a SER or a joint model."""

import argparse
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.values.numbers import COUNT


def get_parser():
    """The options of stage 12."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="SER or joint experiment")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--scp", required=True, help="audio to recognise (of a condition)")
    parser.add_argument("--feats", help="features of the audio (stage 9), for a SER experiment")
    parser.add_argument("--ids", required=True, help="list of ids, e.g. test.lst of the fold")
    parser.add_argument("--output", required=True, help="table to write (hyp.tsv)")
    parser.add_argument(
        "--by_ua_and_wa",
        action="store_true",
        help="hypothesis is of the epoch with the best dev UA whatever the configuration chooses "
        "by, and hypothesis_wa of that with the best dev WA (for best_test_epoch)",
    )
    parser.add_argument(
        "--output_audio",
        help="directory for the speech that a joint or enhancing model gives, and wav.scp",
    )
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="utterances at a time")
    add_options(parser)
    return parser


def main(argv=None):
    """Write one line an utterance: reference, hypothesis, posteriors, extraction scores."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.id_list import read_ids
    from espnet_tse_ser.audio.kaldi_dir import write_table
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.audio.reading import write_audio
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.inference.recognition import hypothesis_columns, recognize_set
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.training.checkpoints import find_weights

    log_to_stderr()
    device = set_up(args)
    by_ua = find_weights(args.model_dir, "valid.ua") if args.by_ua_and_wa else None
    model = TSESER.from_pretrained(args.model_dir, by_ua, device, calibrated=False)
    if args.output_audio and not model.gives_speech:
        raise UserError(f"--output_audio: {args.model_dir} neither extracts nor enhances")
    ids = read_ids(args.ids)
    inputs = [args.ids, args.scp, args.data_dir, args.model_dir, args.feats]
    check_no_input(args.output, inputs, "--output")
    if args.output_audio:
        check_no_input(args.output_audio, inputs, "--output_audio")
    given = {"mixtures" if model.extracts else "scp": args.scp}
    data = MixtureDir(args.data_dir, ids, model.rate, **given, scored=model.gives_speech)
    if "enrollment" in model.inputs:
        data.table("enroll")  # missing ones are found before anything is computed
    features = _open_cache(args.feats, model, data) if args.feats else None
    extracted = {}

    def keep(utt, result):
        if args.output_audio:
            extracted[utt] = (Path(args.output_audio) / f"{utt}.flac").absolute()
            sources = [files[utt] for name, files in data.tables.items() if name != "emotion"]
            check_no_input(extracted[utt], sources, "--output_audio")
            write_audio(extracted[utt], result.speech, result.rate)

    columns = [*hypothesis_columns(model), "epoch"]
    rows = recognize_set(model, data, args.batch_size, keep, features)
    for row in rows:
        row["epoch"] = model.epoch
    if extracted:
        write_table(Path(args.output_audio) / "wav.scp", extracted)
    if args.by_ua_and_wa:
        by_wa = find_weights(args.model_dir, "valid.wa")
        other = TSESER.from_pretrained(args.model_dir, by_wa, device)
        columns += ["hypothesis_wa", "epoch_wa"]
        twins = recognize_set(other, data, args.batch_size, features=features)
        for row, twin in zip(rows, twins, strict=True):
            row |= {"hypothesis_wa": twin["hypothesis"], "epoch_wa": other.epoch}
    write_tsv(args.output, rows, columns)


def _open_cache(directory, model, data):
    from espnet_tse_ser.recognise.feature_cache import FeatureCache

    if model.extracts:
        raise UserError("--feats is for a SER experiment: a joint model extracts from audio")
    cache = FeatureCache(directory)
    cache.check_frontend(model.model.frontend)
    cache.check(data.table(data.input))
    return cache


if __name__ == "__main__":
    sys.exit(run(main))
