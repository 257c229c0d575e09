"""Prepare a Kaldi data directory from a corpus on disk, or make the mini corpora."""

import argparse
import sys

from espnet_tse_ser.errors import run
from espnet_tse_ser.numbers import COUNT, SECONDS, SEED, Number
from espnet_tse_ser.progress import log_to_stderr


def get_parser():
    """Return the argument parser: one subcommand a corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", required=True, help="directory of the corpus")
    common.add_argument("--output_dir", required=True, help="data directory to write")

    iemocap = corpora.add_parser(
        "iemocap", parents=[common], help="IEMOCAP, 4 classes", formatter_class=_Formatter
    )
    _add_expected_total(iemocap, 5531, "utterances of the 4 classes")
    iemocap.set_defaults(prepare=_iemocap)

    librispeech = corpora.add_parser(
        "librispeech", parents=[common], help="LibriSpeech", formatter_class=_Formatter
    )
    librispeech.add_argument(
        "--subsets", type=_words, default=("train-clean-100",), help="names, space separated"
    )
    librispeech.add_argument(
        "--complete",
        choices=("true", "speakers", "false"),
        default="false",
        help="assert the known totals of each subset, or that all its speakers are there",
    )
    librispeech.add_argument(
        "--piece_seconds",
        type=SECONDS.option,
        default=0.0,
        help="cut into pieces this long; 0: do not cut",
    )
    librispeech.add_argument(
        "--min_piece_seconds",
        type=SECONDS.option,
        default=2.0,
        help="drop pieces shorter than this",
    )
    librispeech.add_argument(
        "--parts",
        type=Number(0, 10**6, above=True).list_option,
        default=(100.0,),
        help="proportions of disjoint speaker parts, such as 70,30",
    )
    librispeech.add_argument(
        "--part", type=COUNT.option, default=1, help="which of --parts to take, from 1"
    )
    librispeech.set_defaults(prepare=_librispeech)

    ravdess = corpora.add_parser(
        "ravdess", parents=[common], help="RAVDESS speech", formatter_class=_Formatter
    )
    ravdess.add_argument(
        "--labels",
        type=_words,
        default=("ang", "hap", "neu", "sad"),
        help="classes, space separated, of: ang cal dis fea hap neu sad sur",
    )
    ravdess.add_argument(
        "--merge_calm", type=_bool, help="calm counts as neutral (default: unless cal is a label)"
    )
    ravdess.add_argument(
        "--trim_silence", type=_bool, default=False, help="cut leading and trailing silence"
    )
    ravdess.add_argument(
        "--threshold_db",
        type=Number(-200, 0, below=True).option,
        default=-35.0,
        help="silence is this far below the loudest",
    )
    ravdess.add_argument(
        "--margin", type=SECONDS.option, default=0.1, help="seconds kept around speech"
    )
    _add_expected_total(ravdess, 1440, "files of all 8 emotions")
    ravdess.set_defaults(prepare=_ravdess)

    esd = corpora.add_parser(
        "esd", parents=[common], help="ESD, emotional interferers", formatter_class=_Formatter
    )
    esd.add_argument(
        "--language", choices=("english", "mandarin", "all"), default="english", help="speakers"
    )
    esd.add_argument(
        "--labels",
        type=_words,
        default=("ang", "hap", "neu", "sad", "sur"),
        help="classes, space separated, of: ang hap neu sad sur",
    )
    esd.add_argument(
        "--complete", type=_bool, default=True, help="assert 350 utterances of each emotion"
    )
    esd.add_argument("--spk2gender", help="file of lines '0011 m'; these genders win")
    esd.set_defaults(prepare=_esd)

    mini = corpora.add_parser(
        "mini",
        help="make the mini corpora (IEMOCAP, LibriSpeech and ESD) with espeak-ng",
        formatter_class=_Formatter,
    )
    mini.add_argument("--output_dir", default="downloads/mini", help="directory to write")
    mini.add_argument("--seed", type=SEED.option, default=0, help="another seed, other utterances")
    mini.set_defaults(prepare=_mini)
    return parser


def main(argv=None):
    """Prepare one corpus."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    args.prepare(args)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show a default only where there is one."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default is not None else action.help


def _add_expected_total(parser, total, what):
    parser.add_argument(
        "--expected_total",
        type=Number(0, 10**9, whole=True).option,
        default=total,
        help=f"assert this many {what}; 0: do not",
    )


def _iemocap(args):
    from espnet_tse_ser.corpora import write_data_dir
    from espnet_tse_ser.corpora.iemocap import prepare_iemocap

    write_data_dir(prepare_iemocap(args.root, args.expected_total or None), args.output_dir)


def _librispeech(args):
    from espnet_tse_ser.corpora import write_data_dir
    from espnet_tse_ser.corpora.librispeech import prepare_librispeech

    utterances = prepare_librispeech(
        args.root,
        subsets=args.subsets,
        complete={"true": True, "false": False}.get(args.complete, args.complete),
        piece_seconds=args.piece_seconds or None,
        min_piece_seconds=args.min_piece_seconds,
        parts=args.parts,
        part=args.part,
    )
    write_data_dir(utterances, args.output_dir)


def _ravdess(args):
    from espnet_tse_ser.corpora import write_data_dir
    from espnet_tse_ser.corpora.ravdess import prepare_ravdess

    utterances = prepare_ravdess(
        args.root,
        labels=args.labels,
        merge_calm=args.merge_calm,
        trim_silence=args.trim_silence,
        threshold_db=args.threshold_db,
        margin=args.margin,
        expected_total=args.expected_total or None,
    )
    write_data_dir(utterances, args.output_dir)


def _esd(args):
    from espnet_tse_ser.corpora import write_data_dir
    from espnet_tse_ser.corpora.esd import prepare_esd

    utterances = prepare_esd(
        args.root,
        language=args.language,
        labels=args.labels,
        complete=args.complete,
        spk2gender=args.spk2gender,
    )
    write_data_dir(utterances, args.output_dir)


def _mini(args):
    from espnet_tse_ser.corpora.mini import make_mini

    make_mini(args.output_dir, args.seed)


def _bool(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def _words(text):
    return tuple(text.replace(",", " ").split())


if __name__ == "__main__":
    sys.exit(run(main))
