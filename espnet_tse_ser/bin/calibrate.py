"""Calibrate a joint model on mixtures of dev, or measure on others what its calibration is worth.

  calibrate --model_dir exp/tse_ser_X/fold1 --data_dir dump/mix --ids data/mix/splits/fold1/dev.lst
  calibrate --model_dir exp/tse_ser_X/fold{1,2} --data_dir dump/mix \
      --ids data/mix/splits/fold{1,2}/test.lst --evaluate

The first writes calibration.json beside the weights: then `tse-ser infer` gives calibrated
probabilities of the emotions, and the probability that the target is in the mixture at all. It is
fitted to three kinds of trials, made of the mixtures: with the right enrollment, with that of
somebody who is not in the mixture, and without the target's voice. Both print what it is worth on
these mixtures, of all folds together, as JSON or a table.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.values.numbers import COUNT, SEED


def get_parser():
    """The options of calibration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model_dir", nargs="+", required=True, help="joint experiments (stage 11); to fit: one"
    )
    parser.add_argument("--data_dir", required=True, help="mixture directory (stage 4)")
    parser.add_argument(
        "--ids", nargs="+", required=True, help="list of ids of each: dev.lst, or test.lst"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="measure the calibration that the model has"
    )
    parser.add_argument(
        "--presence_only",
        action="store_true",
        help="fit no temperature: that of a dev of few speakers is mostly theirs",
    )
    parser.add_argument("--table", help="file for a table of the trials (.tsv)")
    parser.add_argument("--form", choices=("json", "markdown"), default="json", help="to print")
    parser.add_argument(
        "--draws",
        type=COUNT.option,
        default=2,
        help="trials of each mixture with a wrong enrollment, and as many without its target",
    )
    parser.add_argument("--seed", type=SEED.option, default=0, help="of the trials")
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="trials at a time")
    add_options(parser)
    return parser


def main(argv=None):
    """Calibrate, or evaluate."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.files import atomic_path, to_json, write_tsv
    from espnet_tse_ser.inference.calibration import to_bytes
    from espnet_tse_ser.inference.model_source import CALIBRATION
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.report.trust import assess, to_markdown

    log_to_stderr()
    device = set_up(args)
    if args.presence_only and args.evaluate:
        raise UserError("--presence_only is of fitting; drop it, or --evaluate")
    if len(args.model_dir) != len(args.ids):
        raise UserError("give as many --ids as --model_dir, in the same order")
    if not args.evaluate and (len(args.ids) > 1 or not Path(args.model_dir[0]).is_dir()):
        raise UserError("a calibration is written beside one model: give the directory of one")
    if args.table:
        check_no_input(args.table, [*args.ids, args.data_dir, *args.model_dir], "--table")
    rows = []
    for model_dir, ids in zip(args.model_dir, args.ids, strict=True):
        labels, calibration, found = _judge(args, model_dir, ids, device)
        rows += found
    if any(row.keys() != rows[0].keys() for row in rows):
        raise UserError("these models have other labels than each other; evaluate them one by one")
    found = assess(rows, labels)
    if not args.evaluate:
        facts = {"seed": args.seed, "draws": args.draws, **found}
        calibration = dataclasses.replace(calibration, fitted_on=facts)
        with atomic_path(Path(args.model_dir[0]) / CALIBRATION) as temporary:
            temporary.write_bytes(to_bytes(calibration))
    if args.table:
        write_tsv(args.table, rows, list(rows[0]))
    print(to_markdown(found) if args.form == "markdown" else to_json(found, args.ids[0], indent=1))


def _judge(args, model_dir, ids, device):
    """Labels, the `Calibration` that a model has or gets, and a dict of each trial."""
    from espnet_tse_ser.audio.id_list import read_ids
    from espnet_tse_ser.files import checksum
    from espnet_tse_ser.inference.calibration import read_calibration
    from espnet_tse_ser.inference.evidence import FEATURES
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.inference.model_source import model_directory
    from espnet_tse_ser.training.checkpoints import weights_of

    with model_directory(model_dir) as directory:
        weights = weights_of(directory)
        calibration = read_calibration(directory, weights) if args.evaluate else None
        if args.evaluate and calibration is None:
            raise UserError(f"{model_dir}: was not calibrated; do so without --evaluate")
        digest = checksum(weights)
        model = TSESER.from_pretrained(directory, device=device, calibrated=False)
    if not (model.extracts and model.needs_enrollment):
        raise UserError(f"{model_dir}: calibration is of joint models that take an enrollment")
    rows = _recognize(args, model, read_ids(ids))
    measured = [[row[name] for name in FEATURES] for row in rows]
    if calibration is None:
        calibration = _fit(rows, model, measured, digest, args.presence_only)
    for row, present in zip(rows, calibration.target_present(measured), strict=True):
        row |= {"temperature": calibration.temperature, "target_present": present}
    return model.labels, calibration, rows


def _recognize(args, model, ids):
    """A dict of each trial, sorted."""
    from espnet_tse_ser.audio.id_list import select
    from espnet_tse_ser.inference.evidence import FEATURES
    from espnet_tse_ser.inference.trials import draw_trials, recognize_trials
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
    from espnet_tse_ser.mixtures.table import read_mixtures
    from espnet_tse_ser.training.preprocessor import label_index

    path = Path(args.data_dir) / "mixtures.tsv"
    mixtures = select({m.mixture: m for m in read_mixtures(path)}, ids, path)
    data = MixtureDir(args.data_dir, ids, model.rate, scored=True)
    data.table("enroll")
    for utt in ids:
        label_index(utt, data.emotion(utt), model.labels)
    trials = draw_trials(list(mixtures.values()), args.draws, args.seed)
    rows = [
        {
            "id": trial.utt,
            "condition": trial.condition,
            "speaker": mixtures[trial.utt].speaker,
            "other": trial.other.speaker if trial.other else "",
            "gender_state": trial.gender_state,
            "reference": mixtures[trial.utt].emotion,
            **{f"p_{label}": p for label, p in result.probabilities.items()},
            **dict(zip(FEATURES, result.evidence.tolist(), strict=True)),
        }
        for trial, result in recognize_trials(model, data, trials, args.batch_size)
    ]
    return sorted(rows, key=lambda row: (row["id"], row["condition"], row["other"], row["level"]))


def _fit(rows, model, measured, digest, presence_only):
    """The `Calibration` of raw results; half of the weight is that of trials with the target."""
    import numpy as np

    from espnet_tse_ser.inference.calibration import Calibration, fit_presence, fit_temperature
    from espnet_tse_ser.inference.trials import CONDITIONS, PRESENT

    conditions = np.array([row["condition"] for row in rows])
    shares = {name: 2 if name == PRESENT else 1 for name in CONDITIONS}
    weights = [shares[name] / (conditions == name).sum() for name in conditions]
    presence = fit_presence(np.array(measured), conditions == PRESENT, weights)
    if presence_only:
        return Calibration(digest, 1.0, presence, {})
    present = [row for row in rows if row["condition"] == PRESENT]
    raw = [[row[f"p_{label}"] for label in model.labels] for row in present]
    reference = [model.labels.index(row["reference"]) for row in present]
    temperature = fit_temperature(raw, reference)
    return Calibration(digest, temperature, presence, {})


if __name__ == "__main__":
    sys.exit(run(main))
