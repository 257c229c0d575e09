"""Numbers on the command lines: what is none is refused by every option of every command."""

import argparse
import importlib
import numbers
import pkgutil

import pytest

from espnet_tse_ser import bin as commands

NO_NUMBERS = ("nan", "-nan", "inf", "-inf", "1e308", "-1e308", "abc", "1_0", "0x10", "")


def get_parsers():
    """Name of a command, with its subcommand -> its parser."""
    parsers = {}
    for module in pkgutil.iter_modules(commands.__path__):
        parser = importlib.import_module(f"{commands.__name__}.{module.name}").get_parser()
        parsers[module.name] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                del parsers[module.name]
                parsers |= {f"{module.name} {name}": p for name, p in action.choices.items()}
    return parsers


def takes_numbers(action):
    """Whether the values of an option are numbers, or lists of them."""
    for text in ("1", "0.5", "-1", "1 2", "-2 -1"):
        try:
            value = action.type(text)
        except (TypeError, ValueError, argparse.ArgumentTypeError):
            continue
        parts = value if isinstance(value, (tuple, list)) else [value]
        return all(isinstance(p, numbers.Real) and not isinstance(p, bool) for p in parts)
    return False


PARSERS = get_parsers()
OPTIONS = [
    (name, action.option_strings[0])
    for name, parser in PARSERS.items()
    for action in parser._actions
    if action.type is not None and takes_numbers(action)
]


def command_line(parser):
    """Words for everything that is required."""
    words = []
    for action in parser._actions:
        if action.required:
            count = {None: 1, "+": 2}.get(action.nargs, action.nargs)
            words += [*action.option_strings[:1], *["x"] * count]
    return words


def test_there_are_commands_and_numbers():
    assert len(PARSERS) > 20 and len(OPTIONS) > 35


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_required_is_enough(name):
    parser = PARSERS[name]
    if not any(action.choices for action in parser._actions if action.required):
        parser.parse_args(command_line(parser))


@pytest.mark.parametrize("name, option", OPTIONS, ids=map(" ".join, OPTIONS))
def test_what_is_no_number_is_refused(name, option, capsys):
    parser = PARSERS[name]
    kind = parser._option_string_actions[option].type
    for text in NO_NUMBERS:
        if text == "" and option == "--seeds":  # an empty list: no seeds
            assert kind(text) == ()
            continue
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([*command_line(parser), f"{option}={text}"])
        assert caught.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"argument {option}: expected " in line and f"got '{text}'" in line


@pytest.mark.parametrize(
    "name, option, texts",
    [
        ("check_data", "--fs", ("0", "-16000", "16000.5", "999", "768000")),
        ("evaluate", "--batch_size", ("0", "-1", "2.5")),
        ("evaluate", "--seeds", ("-1", "1 -2", "1,2.5", "1 x")),
        ("extract", "--job", ("0", "-1", "1.5")),
        ("extract", "--batch_size", ("0", "-1", "2.5")),
        ("format_audio", "--min_duration", ("-1", "1e9")),
        ("infer", "--window_seconds", ("0", "-1", "1e7")),
        ("infer", "--segment_seconds", ("0", "-1", "1e7")),
        ("prepare librispeech", "--parts", ("70,0", "70,-30", "70;30")),
        ("prepare librispeech", "--part", ("0", "-1", "1.5")),
        ("prepare ravdess", "--threshold_db", ("0", "6")),
        ("prepare ravdess", "--margin", ("-0.1",)),
        ("prepare ravdess", "--expected_total", ("-1", "0.5")),
        ("mixture_table", "--num_sources", ("0", "-1", "1.5")),
        ("mixture_table", "--seed", ("-1", "2147483648")),
        ("evaluate", "--num_threads", ("0", "-1", "2.5", "1e9")),
        ("ser_train", "--seed", ("-1", "0.5", "4294967296")),
        ("mixture_table", "--dev_share", ("0", "1", "1.5", "-0.1")),
        (
            "mixture_table",
            "--snr_range",
            ("5", "5 -5", "1 2 3", "nan nan", "-1e308 1e308", "0 101"),
        ),
        ("mixture_table", "--loudness_range", ("-25 -33", "-33 1", "low high")),
        ("recognize", "--batch_size", ("0", "-1", "2.5")),
        ("tse_score", "--fs", ("0", "-16000", "16000.5", "999", "1e9")),
        ("tse_score", "--nj", ("0", "1.5")),
        ("score", "--seed", ("-1", "0 1")),
        ("score", "--seeds", ("-1", "0.5")),
        ("simulate", "--job", ("0", "-1")),
        ("simulate", "--nj", ("0", "1.5")),
    ],
)
def test_what_is_out_of_range_is_refused(name, option, texts, capsys):
    parser = PARSERS[name]
    for text in texts:
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([*command_line(parser), f"{option}={text}"])
        assert caught.value.code == 2
        assert f"argument {option}: expected " in capsys.readouterr().err.splitlines()[-1]


def test_numbers_are_read_as_they_are_meant():
    parser = PARSERS["mixture_table"]
    args = parser.parse_args(
        [*command_line(parser), "--fs", "8e3", "--snr_range=-5,2.5", "--dev_share", ".5"]
    )
    assert (args.fs, args.snr_range, args.dev_share) == (8000, (-5, 2.5), 0.5)
    assert args.loudness_range == (-33, -25) and args.seed == 0
    args = PARSERS["score"].parse_args([*command_line(PARSERS["score"]), "--seeds", "1, 2 3"])
    assert (args.seed, args.seeds) == (0, (1, 2, 3))


@pytest.mark.parametrize("name", ["ser_train", "tse_train", "tse_ser_train"])
def test_no_option_is_taken_for_the_beginning_of_another(name):
    """All that is no option of a training's own goes to ESPnet, which has other options."""
    parser = PARSERS[name]
    for option in ("--see", "--out", "--conf", "--sta", "--spl"):
        words = [*command_line(parser), option, "3"]
        args, further = parser.parse_known_args(words)
        assert further == [option, "3"] and args.seed == 0 and args.config == "x"
