"""Extract the target of recordings and recognise its emotion; prints a line of JSON for each.

  infer mixture.wav enrollment.wav                        one recording
  infer talks/ 'more/*.flac' --enrollment a.wav b.wav     many, with two enrollments of one target
  infer list.tsv --output results.tsv                     a table: mixture, enrollment, id

A recording that cannot be used is reported, the others go on, and the status is 2 in the end. What
--output has is not computed again. Read are WAV (RF64, W64), FLAC, Ogg (Vorbis, Opus), MP3, AIFF,
AU and CAF of any rate and number of channels; /dev/stdin and <(command) may be recordings, too.

A recording longer than --window_seconds is extracted by windows, in memory that does not grow with
it. Its emotions, or those of one longer than --segment_seconds if that is given, are of segments:
"segments" lists start and end in s, label and probabilities of each, null where the recording is
silent; "label", "probabilities" and "target_present" are then the mean's.

"target_present" is the probability that the target is in the recording at all, null of a model
that was not calibrated (`tse-ser calibrate`); below 0.5, in all segments, it brings a warning.
"over_suppressed" is the share of active frames of which extraction leaves less than 1 % (energy).
"""

import argparse
import functools
import logging
import sys

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.inference.command_line import (
    LENGTH,
    add_model,
    add_outputs,
    add_recordings,
    process,
)
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr

logger = logging.getLogger(__name__)

_SEGMENT_SECONDS = 5.0


def get_parser():
    """The options of inference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_recordings(parser)
    add_model(parser)
    parser.add_argument(
        "--speech", help="audio file: what a front-end made of the mixture (recognisers of both)"
    )
    parser.add_argument(
        "--front_end",
        help="experiment of stage 6 that makes the speech of the mixture (recognisers alone that "
        "are trained on denoised speech)",
    )
    add_outputs(parser)
    parser.add_argument(
        "--segment_seconds",
        type=LENGTH.option,
        help="each part of about this length gets an emotion; default: "
        f"{_SEGMENT_SECONDS:g} in what is longer than a window, else the whole gets one",
    )
    add_options(parser)
    return parser


def main(argv=None):
    """Recognise recordings."""
    args = get_parser().parse_args(argv)
    log_to_stderr("WARNING")
    from espnet_tse_ser.inference.model_source import fingerprint

    def settings():
        return {
            "model": fingerprint(args.model_dir, args.front_end),
            "window_seconds": args.window_seconds,
            "segment_seconds": args.segment_seconds,
        }

    def load(*given):
        return _load(args, set_up(args), *given)

    process(args, "infer", settings, load, functools.partial(_recognize, args))


def _load(args, device, is_enrolled, is_pair):
    from espnet_tse_ser.inference.model import TSESER

    front_end = None
    if args.front_end is not None:
        from espnet_tse_ser.frontends.loading import load_front_end

        front_end = load_front_end(args.front_end, device=device)
    model = TSESER.from_pretrained(args.model_dir, device=device, front_end=front_end)
    if args.output_wav or args.output_dir:
        if not model.extracts and front_end is None:
            option = "--output_wav" if args.output_wav else "--output_dir"
            raise UserError(
                f"{option}: {args.model_dir} does not extract; use a joint model or a --front_end"
            )
    if args.speech is not None and front_end is not None:
        raise UserError("--front_end gives the speech: leave out --speech, or --front_end")
    if model.needs_enrollment and not is_enrolled:
        who = args.model_dir if model.extracts or front_end is None else args.front_end
        raise UserError(
            f"{who} extracts the target and needs --enrollment, its speech (only two audio files "
            "alone are a recording and its enrollment)"
        )
    if is_pair and not model.needs_enrollment:
        raise UserError(
            f"{args.model_dir} takes no enrollment, which the second of two files is; for two "
            "recordings give --mixture before each"
        )
    if model.condition == "denoised" and model.inputs == ("speech",) and front_end is None:
        logger.warning(
            "%s was trained on denoised speech, but gets the recording as it is; --front_end DIR "
            "(stage 6) denoises it",
            args.model_dir,
        )
    return model


def _recognize(args, reader, load, item, output):
    """The result of one recording."""
    from espnet_tse_ser.inference.cautions import cautions
    from espnet_tse_ser.inference.inputs import is_same

    seconds = reader.seconds(item.mixture)
    longest = min(args.window_seconds, args.segment_seconds or args.window_seconds)
    given = {"enrollment": reader.enrollment(item.enrollments)} if item.enrollments else {}
    if args.speech is not None:
        given["speech"] = reader.read(args.speech)
    if seconds <= longest:
        given["mixture"] = reader.read(item.mixture)
    model = load()
    if "mixture" in given:
        result, quality = _short(model, given, output)
    else:
        result, quality = _long(args, model, reader.file(item.mixture), given, output)
    present = [part["target_present"] for part in result.get("segments", [result])]
    found = cautions(model, quality, item.mixture, given.get("enrollment", ()), present)
    if model.needs_enrollment and any(is_same(item.mixture, name) for name in item.enrollments):
        found.append(f"enrollment is the mixture itself: give the target alone ({item.mixture})")
    return result | {"warnings": found}


def _short(model, given, output):
    from espnet_tse_ser.audio.quality import measure
    from espnet_tse_ser.audio.reading import write_audio
    from espnet_tse_ser.inference.frames import suppression
    from espnet_tse_ser.inference.results import emotion_of, rounded

    samples, rate, name = given["mixture"]
    signals = model.arrange(given)
    result = model.recognize_one(signals, name)
    speech, suppressed = result.speech, result.over_suppressed
    if model.front_end is not None:
        speech = dict(zip(model.inputs, signals, strict=True))["speech"]
        mixture = model.prepare(*given["mixture"])
        suppressed = suppression(mixture, speech, model.rate, sets_level=True)
    if output is not None:
        write_audio(output, speech, result.rate)
    found = {
        **emotion_of(result.probabilities),
        "calibrated": result.calibrated,
        "target_present": rounded(result.target_present),
        "over_suppressed": rounded(suppressed),
        "sample_rate": result.rate,
        "seconds": round(len(samples) / rate, 3),
    }
    return found, measure(samples, rate)


def _long(args, model, path, given, output):
    from espnet_tse_ser.inference.frames import Frames
    from espnet_tse_ser.inference.recording import Recording, overall, recognize_recording
    from espnet_tse_ser.inference.results import emotion_of, rounded

    enrollment = model.enroll(given["enrollment"]) if model.needs_enrollment else None
    recording, frames = Recording(path, model.rate), Frames(model.rate, model.sets_level)
    segments = recognize_recording(
        model,
        recording,
        enrollment,
        output,
        frames,
        window_seconds=args.window_seconds,
        segment_seconds=args.segment_seconds or _SEGMENT_SECONDS,
    )
    present = [s.target_present for s in segments if s.target_present is not None]
    found = {
        **emotion_of(overall(segments)),
        "calibrated": model.calibrated,
        "target_present": rounded(sum(present) / len(present)) if present else None,
        "over_suppressed": rounded(frames.over_suppressed()),
        "sample_rate": model.rate,
        "seconds": round(recording.seconds, 3),
        "segments": [
            {"start": round(s.start, 3), "end": round(s.end, 3)}
            | emotion_of(s.probabilities)
            | {"target_present": rounded(s.target_present)}
            for s in segments
        ],
    }
    return found, recording.quality


if __name__ == "__main__":
    sys.exit(run(main))
