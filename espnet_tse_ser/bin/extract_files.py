"""Extract the target of recordings; prints a line of JSON for each, and writes WAV files.

  extract mixture.wav enrollment.wav --output_wav target.wav
  extract talks/ --enrollment a.wav --model_dir MODEL --output_dir targets

Of a joint model the front-end is taken. Recordings are given as to `tse-ser infer`. What stage 7 of
a recipe does is espnet_tse_ser.bin.extract.
"""

import argparse
import functools
import sys

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.inference.command_line import add_model, add_outputs, add_recordings, process
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr


def get_parser():
    """The options of extraction."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_recordings(parser)
    add_model(parser, "a front-end (stage 6) or a joint model (stage 11)")
    add_outputs(parser)
    add_options(parser)
    return parser


def main(argv=None):
    """Extract the targets of recordings."""
    args = get_parser().parse_args(argv)
    log_to_stderr("WARNING")
    if args.output_wav is None and args.output_dir is None:
        raise UserError("where to? give --output_wav FILE, or --output_dir DIR for several")

    def settings():
        return {"model": _fingerprint(args.model_dir), "window_seconds": args.window_seconds}

    def load(*given):
        return _load(args, set_up(args), *given)

    process(args, "extract", settings, load, functools.partial(_extract, args))


def _fingerprint(model_dir):
    from espnet_tse_ser.inference import model_source

    with model_source.model_directory(model_dir) as directory:
        if model_source.has_recogniser(directory):
            return model_source.fingerprint(directory)
        return model_source.front_end_fingerprint(directory)


def _load(args, device, is_enrolled, is_pair):
    from espnet_tse_ser.inference.model import front_end_of

    front_end = front_end_of(args.model_dir, device)
    if front_end.needs_enrollment and not is_enrolled:
        raise UserError(f"{args.model_dir} extracts the target and needs --enrollment, its speech")
    if is_pair and not front_end.needs_enrollment:
        raise UserError(
            f"{args.model_dir} takes no enrollment, which the second of two files is; for two "
            "recordings give --mixture before each"
        )
    return front_end


def _extract(args, reader, load, item, output):
    """The result of one recording."""
    from espnet_tse_ser.audio.quality import remarks, remarks_on
    from espnet_tse_ser.inference.preparation import enroll
    from espnet_tse_ser.inference.recording import Recording, extract_recording
    from espnet_tse_ser.inference.results import rounded

    reader.seconds(item.mixture)  # a wrong file does not wait for the model
    enrollments = reader.enrollment(item.enrollments)
    front_end = load()
    enrollment = enroll(enrollments, front_end.rate) if front_end.needs_enrollment else None
    recording = Recording(reader.file(item.mixture), front_end.rate)
    frames = extract_recording(front_end, recording, enrollment, output, args.window_seconds)
    found = remarks(recording.quality, "mixture", item.mixture, front_end.rate)
    if front_end.needs_enrollment:
        found += remarks_on(enrollments, "enrollment", front_end.rate)
    return {
        "output": str(output),
        "over_suppressed": rounded(frames.over_suppressed()),
        "sample_rate": front_end.rate,
        "seconds": round(recording.seconds, 3),
        "warnings": found,
    }


if __name__ == "__main__":
    sys.exit(run(main))
