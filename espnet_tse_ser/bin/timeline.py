"""When the target of a long recording speaks, and with which emotion.

  timeline talk.flac --enrollment a.wav --output_dir out
  timeline talk.flac --enroll_from 12.5-15 31-34.2 --output_dir out

writes out/talk.json (all that is known), .tsv (a line a segment), .rttm (who speaks when, as of
diarisation) and .png (waveform, voices, levels, emotions), and prints one line of JSON.

The target is present in a frame if what is extracted has enough of the energy of the mixture
(--presence_db) and is not much below what is loud in it (--floor_db), both smoothed over 0.2 s,
and if, of a model with a calibration, "target_present" of the windows of 1.5 s around it is high
enough (--least_present), and the voices in these windows are alike enough to the enrollment
(--least_similarity); gaps and stretches of less than 0.3 s are ignored. Stretches are cut into
segments of --segment_seconds at most, which get an emotion, without silence at their ends. Voices
are compared by an encoder that thousands of speakers trained. How much they differ depends on the
kind of recording: on a telephone others have 0.7, and the target 0.8. Look at the picture.
"""

import argparse
import logging
import re
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.inference.command_line import LENGTH, add_model
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.values.numbers import SHARE, Number

logger = logging.getLogger(__name__)

SETTINGS = {
    "presence_db": (
        Number(-200, 200),
        None,
        "least level of what is extracted in the mixture; default: -30 of a model that gives "
        "target_present, else -10",
    ),
    "floor_db": (Number(0, 200), 30.0, "how far below what is loud in it that may be"),
    "least_present": (SHARE, None, "least target_present; default: 0.5 of a model that gives it"),
    "least_similarity": (Number(-1, 1), None, "least cosine of voices; default: 0.5"),
    "window_seconds": (LENGTH, 60.0, "extracted at a time"),
    "segment_seconds": (LENGTH, 5.0, "of a segment at most"),
}


def get_parser():
    """The options of timelines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mixture", metavar="RECORDING", help="audio file, however long")
    add_model(parser)
    parser.add_argument("--front_end", help="experiment of stage 6, for a recogniser alone")
    parser.add_argument(
        "--enrollment", nargs="+", default=[], help="audio files of the target alone"
    )
    parser.add_argument(
        "--enroll_from",
        nargs="+",
        default=[],
        type=_stretch,
        metavar="START-END",
        help="stretches of the recording itself in s in which the target speaks alone",
    )
    parser.add_argument("--output_dir", required=True, help="directory to write")
    parser.add_argument("--target", default="target", help="name of the speaker in the RTTM file")
    add_settings(parser)
    add_options(parser)
    return parser


def add_settings(parser):
    """Add the options of `SETTINGS`."""
    for name, (kind, default, about) in SETTINGS.items():
        about += "" if default is None else f"; default: {default:g}"
        parser.add_argument(f"--{name}", type=kind.option, default=default, help=about)


def settings_of(args):
    """The values of `add_settings`, a dict; None is the default of the model (`settled`)."""
    return {name: getattr(args, name) for name in SETTINGS}


def main(argv=None):
    """Write the timeline of one recording."""
    args = get_parser().parse_args(argv)
    log_to_stderr("WARNING")
    if bool(args.enrollment) and bool(args.enroll_from):
        raise UserError("give --enrollment or --enroll_from, not both")
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.files import to_json, write_json, write_text, write_tsv
    from espnet_tse_ser.inference.cautions import cautions
    from espnet_tse_ser.inference.inputs import Reader
    from espnet_tse_ser.inference.timeline import read_stretch, settled
    from espnet_tse_ser.report.timeline import plot_timeline

    base = Path(args.output_dir) / Path(args.mixture).stem
    files = {kind: base.with_name(f"{base.name}.{kind}") for kind in ("json", "tsv", "rttm", "png")}
    for path in files.values():
        check_no_input(path, [args.mixture, *args.enrollment], "--output_dir")
    with Reader() as reader, reader.named():
        mixture = reader.file(args.mixture)
        reader.seconds(args.mixture)  # a wrong file does not wait for the model
        enrollments = [reader.read(name) for name in args.enrollment] + [
            (*read_stretch(mixture, *ends), f"{args.mixture}: {ends[0]:g} to {ends[1]:g} s")
            for ends in args.enroll_from
        ]
        model = _load(args, set_up(args), bool(enrollments))
        vars(args).update(settled(model, settings_of(args)))
        base.parent.mkdir(parents=True, exist_ok=True)
        recording, parts, frames, presence = _find(args, model, mixture, enrollments)
        found = cautions(model, recording.quality, args.mixture, enrollments)
        found += _groups(args, presence)
        if not parts:
            thresholds = [name for name, (_, default, _) in SETTINGS.items() if default is None]
            asked = [f"--{name}" for name in thresholds if getattr(args, name) is not None]
            found.append(
                "target found nowhere: give a longer enrollment of it alone, if it takes one, or "
                f"lower {' or '.join(asked)} ({args.mixture})"
            )
    result = _as_json(args, model, recording, parts) | {"warnings": found}
    write_json(files["json"], result)
    columns = ["start", "end", "label", *(f"p_{label}" for label in model.labels)]
    columns += ["presence_db", "target_present", "similarity"]
    write_tsv(files["tsv"], map(_flat, result["segments"]), columns)
    write_text(files["rttm"], _rttm(base.name, args.target, parts))
    plot_timeline(
        files["png"], parts, frames, presence, model.labels, result["settings"], base.name
    )
    for text in found:
        logger.warning("%s", text)
    printed = {key: value for key, value in result.items() if key != "segments"}
    print(to_json(printed | {"files": list(map(str, files.values()))}, args.mixture))


def _stretch(text):
    """``12.5-15`` as (12.5, 15.0)."""
    found = re.fullmatch(r"(\d+\.?\d*)-(\d+\.?\d*)", text)
    if found is None or not float(found[1]) < float(found[2]):
        raise argparse.ArgumentTypeError(f"expected START-END in s, as 12.5-15, got '{text}'")
    return float(found[1]), float(found[2])


def _load(args, device, is_enrolled):
    from espnet_tse_ser.frontends.loading import load_front_end
    from espnet_tse_ser.inference.model import TSESER

    front_end = args.front_end and load_front_end(args.front_end, device=device)
    model = TSESER.from_pretrained(args.model_dir, device=device, front_end=front_end)
    if is_enrolled and not model.needs_enrollment:
        raise UserError(f"{args.front_end or args.model_dir}: takes no enrollment; leave it out")
    if model.needs_enrollment and not is_enrolled:
        raise UserError(
            f"{args.model_dir} extracts the target and needs --enrollment, its speech, or "
            "--enroll_from, a stretch of the recording in which it speaks alone"
        )
    return model


def _find(args, model, path, enrollments):
    """The recording, and what `timeline.find_parts` finds in it."""
    from espnet_tse_ser.inference.recording import Recording
    from espnet_tse_ser.inference.timeline import find_parts

    enrollment = model.enroll(enrollments) if model.needs_enrollment else None
    recording = Recording(path, model.rate)
    return recording, *find_parts(
        model,
        recording,
        enrollment,
        args.output_dir,
        **settings_of(args),
    )


def _groups(args, presence):
    """A remark where voices fall into two groups that the threshold does not tell apart."""
    from espnet_tse_ser.inference.presence import two_groups

    groups = None if presence is None else two_groups(presence.window_similarity)
    if groups is None or groups[1] < args.least_similarity <= groups[2]:
        return []
    least, low, high = groups
    return [
        f"voices fall into two groups, of similarities about {low:.2f} and {high:.2f}: "
        f"--least_similarity {least:.2f} takes the second alone ({args.mixture})"
    ]


def _as_json(args, model, recording, parts):
    from espnet_tse_ser.inference.model_source import fingerprint
    from espnet_tse_ser.inference.results import emotion_of
    from espnet_tse_ser.inference.timeline import overall

    segments = [
        {
            "start": round(part.start, 3),
            "end": round(part.end, 3),
            **emotion_of(part.probabilities),
            "presence_db": round(part.presence_db, 2),
            "target_present": part.target_present and round(part.target_present, 4),
            "similarity": part.similarity and round(part.similarity, 4),
        }
        for part in parts
    ]
    return {
        "mixture": args.mixture,
        "enrollment": args.enrollment,
        "enroll_from": args.enroll_from,
        "model": fingerprint(args.model_dir, args.front_end),
        "settings": settings_of(args),
        "calibrated": model.calibrated,
        "sample_rate": model.rate,
        "seconds": round(recording.seconds, 3),
        "target_seconds": round(sum(part.end - part.start for part in parts), 3),
        **emotion_of(overall(parts)),
        "segments": segments,
    }


def _flat(segment):
    """A segment as a row of a table."""
    row = dict(segment)
    return row | {f"p_{label}": p for label, p in row.pop("probabilities").items()}


def _rttm(name, target, parts):
    """Stretches in which the target speaks, as NIST's format has them."""
    names = [re.sub(r"\s", "_", text) for text in (name, target)]
    joined = []
    for part in parts:
        if joined and joined[-1][1] == part.start:
            joined[-1] = joined[-1][0], part.end
        else:
            joined.append((part.start, part.end))
    return "".join(
        f"SPEAKER {names[0]} 1 {start:.3f} {end - start:.3f} <NA> <NA> {names[1]} <NA> <NA>\n"
        for start, end in joined
    )


if __name__ == "__main__":
    sys.exit(run(main))
