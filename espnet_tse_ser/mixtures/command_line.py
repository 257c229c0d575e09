"""How command lines name levels and folds of mixtures: those of a table and its sweeps alike."""

from espnet_tse_ser.mixtures.table import LEVELS
from espnet_tse_ser.values.kinds import Choice
from espnet_tse_ser.values.numbers import Number


def add_level_options(parser):
    """Add what `levels_of` takes to a command line."""
    parser.add_argument("--levels", default="loudness", help="loudness (as LibriMix) or snr")
    parser.add_argument(
        "--snr_range",
        type=Number(-100, 100).range_option,
        default="-5 5",
        help="'low high' in dB, with --levels snr",
    )
    parser.add_argument(
        "--snr_set",
        type=LEVELS.option,
        help="with --levels snr and in place of --snr_range: SNRs in dB, one of which each mixture "
        "gets, such as 'clean 20 10 0'; clean: no source",
    )
    parser.add_argument(
        "--loudness_range",
        type=Number(-100, 0).range_option,
        default="-33 -25",
        help="'low high' in LUFS, of the target and, with --levels loudness, of every source",
    )


def add_noise_split_option(parser):
    """Add the ``noise_split`` of `sources.group_folds` to a command line."""
    parser.add_argument(
        "--noise_split",
        type=Choice("groups", "none").option,
        default="groups",
        help="groups: every recording of noise is in one fold; none: in all of them, so that what "
        "disturbs in training disturbs in tests too, which every table then says",
    )


def levels_of(args):
    """The `Levels` of a command line."""
    from espnet_tse_ser.mixtures.mixing import Levels

    return Levels(args.levels, args.loudness_range, args.snr_range, args.snr_set)
