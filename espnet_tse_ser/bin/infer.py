"""Extract the target of one recording and recognise its emotion; prints one JSON object."""

import argparse
import json
import sys

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
    from espnet_tse_ser.data.audio import read_audio, to_mono, write_audio

    # Files first: a wrong one must not wait for the model.
    mixture, rate = read_audio(args.mixture)
    seconds = len(mixture) / rate
    enrollment = None
    if args.enrollment is not None:
        enrollment, enrollment_rate = read_audio(args.enrollment)
        enrollment = to_mono(enrollment, enrollment_rate, rate)
    from espnet_tse_ser.inference import TSESER

    model = TSESER.from_pretrained(args.model_dir)
    if args.output_wav is not None and not model.extracts:
        raise UserError(f"--output_wav: {args.model_dir} does not extract; use a joint model")
    result = model(mixture, enrollment, rate)
    if args.output_wav is not None:
        write_audio(args.output_wav, result.speech, result.rate)
    print(
        json.dumps(
            {
                "label": result.label,
                "probabilities": {k: round(p, 6) for k, p in result.probabilities.items()},
                "sample_rate": result.rate,
                "seconds": round(seconds, 3),
            }
        )
    )


if __name__ == "__main__":
    sys.exit(run(main))
