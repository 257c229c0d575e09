"""Extract the target of one recording and recognise its emotion; prints one JSON object.

A recording longer than --window_seconds is extracted by windows, in memory that does not grow with
it, and its emotions are those of segments: "segments" in the JSON object lists start and end in s,
label and probabilities of each, null where the recording is silent; "label" and "probabilities" are
then the mean's.
"""

import argparse
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import to_json
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.values.numbers import Number

logger = logging.getLogger(__name__)

_LENGTH = Number(0, 10**6, above=True)  # s


def get_parser():
    """The options of single-file inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="experiment, e.g. exp/tse_ser_X/fold1")
    parser.add_argument("--mixture", required=True, help="audio file, any rate and channel count")
    parser.add_argument("--enrollment", help="audio file of the target alone, for extraction")
    parser.add_argument(
        "--speech", help="audio file: what a front-end made of the mixture (recognisers of both)"
    )
    parser.add_argument(
        "--front_end",
        help="experiment of stage 6 that makes the speech of the mixture (recognisers alone that "
        "are trained on denoised speech)",
    )
    parser.add_argument("--output_wav", help="write the extracted target here (16-bit)")
    parser.add_argument(
        "--window_seconds",
        type=_LENGTH.option,
        default=60.0,
        help="a longer recording is extracted by windows of this length; they bound the memory",
    )
    parser.add_argument(
        "--segment_seconds",
        type=_LENGTH.option,
        default=5.0,
        help="of such a recording each part of about this length gets an emotion",
    )
    add_options(parser)
    return parser


def main(argv=None):
    """Recognise one recording."""
    args = get_parser().parse_args(argv)
    log_to_stderr("WARNING")
    # Files first: a wrong one must not wait for the model.
    if args.output_wav is not None:
        _check_output(Path(args.output_wav), args.mixture, args.enrollment, args.speech)
    from espnet_tse_ser.audio.reading import read_audio

    seconds = _seconds(args.mixture)
    paths = {name: getattr(args, name) for name in ("mixture", "enrollment", "speech")}
    if seconds > args.window_seconds:
        del paths["mixture"]
    given = {name: (*read_audio(path), path) for name, path in paths.items() if path is not None}
    model = _load(args, set_up(args), "enrollment" in given)
    result = (_short if "mixture" in given else _long)(args, model, given)
    print(to_json(result, args.mixture))


def _seconds(path):
    """Length of a recording."""
    from espnet_tse_ser.audio.reading import open_audio

    with open_audio(path) as audio:
        return audio.count() / audio.rate


def _check_output(path, *inputs):
    """Raise `UserError` unless an audio file can be written to ``path``, as far as names tell."""
    from espnet_tse_ser.audio.outputs import check_no_input

    if path.suffix not in (".wav", ".flac"):
        raise UserError(f"--output_wav {path}: the name must end in .wav or .flac")
    if path.is_dir():
        raise UserError(f"--output_wav {path}: is a directory; give the name of a file in it")
    check_no_input(path, inputs, "--output_wav")
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"--output_wav {path}: {above} is not a directory; choose another place")


def _load(args, device, is_enrolled):
    from espnet_tse_ser.inference.model import TSESER

    front_end = None
    if args.front_end is not None:
        from espnet_tse_ser.frontends.loading import load_front_end

        front_end = load_front_end(args.front_end, device=device)
    model = TSESER.from_pretrained(args.model_dir, device=device, front_end=front_end)
    if args.output_wav is not None and not model.extracts and front_end is None:
        raise UserError(
            f"--output_wav: {args.model_dir} does not extract; use a joint model or a --front_end"
        )
    if args.speech is not None and front_end is not None:
        raise UserError("--front_end gives the speech: leave out --speech, or --front_end")
    if model.needs_enrollment and not is_enrolled:
        who = args.model_dir if model.extracts or front_end is None else args.front_end
        raise UserError(f"{who} extracts the target and needs --enrollment, its speech")
    if model.condition == "denoised" and model.inputs == ("speech",) and front_end is None:
        logger.warning(
            "%s was trained on denoised speech, but gets the recording as it is; --front_end DIR "
            "(stage 6) denoises it",
            args.model_dir,
        )
    return model


def _short(args, model, given):
    from espnet_tse_ser.audio.reading import write_audio

    samples, rate, _ = given["mixture"]
    signals = model.arrange(given)
    result = model.recognize(*([signal] for signal in signals))[0]
    if args.output_wav is not None:
        denoised = dict(zip(model.inputs, signals, strict=True)).get("speech")
        write_audio(args.output_wav, result.speech if model.extracts else denoised, result.rate)
    return _as_json(result.probabilities) | {
        "sample_rate": result.rate,
        "seconds": round(len(samples) / rate, 3),
    }


def _long(args, model, given):
    from espnet_tse_ser.inference.recording import Recording, overall, recognize_recording

    enrollment = model.prepare(*given["enrollment"]) if model.needs_enrollment else None
    recording = Recording(args.mixture, model.rate)
    segments = recognize_recording(
        model,
        recording,
        enrollment,
        args.output_wav,
        window_seconds=args.window_seconds,
        segment_seconds=args.segment_seconds,
    )
    return _as_json(overall(segments)) | {
        "sample_rate": model.rate,
        "seconds": round(recording.seconds, 3),
        "segments": [
            {"start": round(s.start, 3), "end": round(s.end, 3)} | _as_json(s.probabilities)
            for s in segments
        ],
    }


def _as_json(probabilities):
    if probabilities is None:
        return {"label": None, "probabilities": None}
    return {
        "label": max(probabilities, key=probabilities.get),
        "probabilities": {k: round(p, 6) for k, p in probabilities.items()},
    }


if __name__ == "__main__":
    sys.exit(run(main))
