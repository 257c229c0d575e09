"""Extract the target of one recording and recognise its emotion; prints one JSON object."""

import argparse
import json
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run


def get_parser():
    """The options of single-file inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="experiment, e.g. exp/tse_ser_X/fold1")
    parser.add_argument("--mixture", required=True, help="audio file, any rate and channel count")
    parser.add_argument("--enrollment", help="audio file of the target alone (joint models)")
    parser.add_argument("--output_wav", help="write the extracted target here (16-bit)")
    return parser


def main(argv=None):
    """Recognise one recording."""
    args = get_parser().parse_args(argv)
    # Files first: a wrong one must not wait for the model.
    if args.output_wav is not None:
        _check_output(Path(args.output_wav))
    from espnet_tse_ser.data.audio import read_audio, write_audio

    mixture, rate = read_audio(args.mixture)
    enrollment = read_audio(args.enrollment) if args.enrollment is not None else None
    result = _recognize(args, mixture, rate, enrollment)
    if args.output_wav is not None:
        write_audio(args.output_wav, result.speech, result.rate)
    print(
        json.dumps(
            {
                "label": result.label,
                "probabilities": {k: round(p, 6) for k, p in result.probabilities.items()},
                "sample_rate": result.rate,
                "seconds": round(len(mixture) / rate, 3),
            }
        )
    )


def _check_output(path):
    """Raise `UserError` unless an audio file can be written to ``path``, as far as names tell."""
    if path.suffix not in (".wav", ".flac"):
        raise UserError(f"--output_wav {path}: the name must end in .wav or .flac")
    if path.is_dir():
        raise UserError(f"--output_wav {path}: is a directory; give the name of a file in it")
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"--output_wav {path}: {above} is not a directory; choose another place")


def _recognize(args, mixture, rate, enrollment):
    """Load the model and recognise; ``enrollment`` is (samples, rate) or None."""
    from espnet_tse_ser.inference import TSESER

    model = TSESER.from_pretrained(args.model_dir)
    if args.output_wav is not None and not model.extracts:
        raise UserError(f"--output_wav: {args.model_dir} does not extract; use a joint model")
    if enrollment is None and model.extracts:
        raise UserError(f"{args.model_dir} extracts the target and needs --enrollment, its speech")
    mixtures = [model.prepare(mixture, rate, args.mixture)]
    enrollments = [model.prepare(*enrollment, args.enrollment)] if model.extracts else None
    return model.recognize(mixtures, enrollments)[0]


if __name__ == "__main__":
    sys.exit(run(main))
