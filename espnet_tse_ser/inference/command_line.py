"""Options of commands that take recordings of any kind, and the work on them."""

import functools
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.shipped import DEFAULT
from espnet_tse_ser.values.numbers import Number

LENGTH = Number(0, 10**6, above=True)  # s


def add_model(parser, kinds="a joint model or a recogniser"):
    """Add which model is used."""
    parser.add_argument(
        "--model_dir",
        default=DEFAULT,
        metavar="MODEL",
        help=f"{kinds}: a name of those that come with this package (default: {DEFAULT}), an "
        "experiment, e.g. exp/tse_ser_X/fold1, an archive of one (stage 16), or user/name of the "
        "Hugging Face hub",
    )


def add_recordings(parser):
    """Add what is worked on."""
    parser.add_argument(
        "recordings",
        nargs="*",
        default=[],
        metavar="RECORDING",
        help="audio files, folders, patterns, tables, or - for a table on standard input; two "
        "files without --enrollment are a mixture and an enrollment",
    )
    parser.add_argument(
        "--mixture",
        action="append",
        default=[],
        help="a further recording, an audio file whatever its name is",
    )
    parser.add_argument(
        "--enrollment", nargs="+", default=[], help="audio files of the target alone"
    )


def add_outputs(parser):
    """Add where results and speech go, and how much is extracted at a time."""
    parser.add_argument("--output", help="file to add the results to, instead of printing them")
    parser.add_argument(
        "--format",
        choices=("jsonl", "tsv"),
        help="lines of JSON, or a table without segments; default: by the suffix of --output",
    )
    parser.add_argument("--output_wav", help="write the extracted target here (16-bit)")
    parser.add_argument("--output_dir", help="write the extracted targets of many here, as WAV")
    parser.add_argument(
        "--window_seconds",
        type=LENGTH.option,
        default=60.0,
        help="a longer recording is extracted by windows of this length; they bound the memory",
    )


def process(args, label, settings, load, compute):
    """Work on the recordings, and write a result of each.

    Args:
        args: with the values of `add_recordings` and `add_outputs`. label: of the bar.
        settings: function that gives those of `Results`.
        load: function of whether there are enrollments, and of whether two files were taken for a
            mixture and an enrollment, that gives a model.
        compute: function of a `Reader`, the function that gives the model, an `Item` and the file
            to write its speech to, or None -> dict.

    Raises:
        UserError: as `find_items`, `Results` and `run_batch`; or what is to be written is read.
    """
    from espnet_tse_ser.inference.batch import run_batch
    from espnet_tse_ser.inference.inputs import Reader
    from espnet_tse_ser.inference.results import Results

    is_pair, items = _items(args)
    outputs = _outputs(args, items)
    speech = getattr(args, "speech", None)
    if speech is not None and len(items) > 1:
        raise UserError("--speech is that of one recording; give one")
    inputs = {name for item in items for name in (item.mixture, *item.enrollments)}
    for path in outputs.values():
        _check_output(path, {*inputs, speech})
    results = Results(args.output, args.format, inputs, settings())
    for item, path in outputs.items():
        if item in results and not path.is_file():
            raise UserError(f"{path}: is gone, but {args.output} has its result; remove that")
    is_enrolled = any(item.enrollments for item in items)
    model = functools.cache(lambda: load(is_enrolled, is_pair))
    with Reader() as reader:

        def compute_one(item):
            with reader.named():
                return compute(reader, model, item, outputs.get(item))

        run_batch(items, compute_one, results, label, model)


def _items(args):
    """Whether the second of two files is the enrollment of the first; and the recordings."""
    from espnet_tse_ser.inference.inputs import Item, find_items

    items = find_items(args.recordings, args.mixture, args.enrollment)
    if not items:
        behind = "; --enrollment takes all names behind it: put the recordings before it"
        raise UserError(
            "give a recording, a folder, a table, or - for a table on standard input"
            + behind * (len(args.enrollment) > 1)
        )
    is_pair = len(args.recordings) == 2 and not args.mixture and not args.enrollment
    if is_pair and items == [Item(name, name) for name in args.recordings]:
        return True, [Item(items[0].id, items[0].mixture, (items[1].mixture,))]
    return False, items


def _outputs(args, items):
    """Item -> file to write its speech to."""
    if args.output_wav is not None and (len(items) > 1 or args.output_dir is not None):
        raise UserError("--output_wav is for one recording; give --output_dir alone")
    if args.output_wav is not None:
        return {items[0]: Path(args.output_wav)}
    if args.output_dir is None:
        return {}
    outputs = {}
    for item in items:
        stem = Path(item.mixture).stem if item.id == item.mixture else item.id.replace("/", "_")
        path = Path(args.output_dir) / f"{stem}.wav"
        if path in outputs:
            raise UserError(
                f"{path}: would be of {outputs[path].id} and of {item.id}; give ids in a table"
            )
        outputs[path] = item
    return {item: path for path, item in outputs.items()}


def _check_output(path, inputs):
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
