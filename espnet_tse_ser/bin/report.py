"""Write an experiment as a page to listen to: tables, plots, and every test utterance.

The page (index.html) needs no server and no network. Beside it are the audio (FLAC, copies: as
large as the test sets in dump) and spectrograms; the directory can be moved or packed as a whole.
"""

import argparse
import datetime
import logging
import shlex
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.values.numbers import COUNT

logger = logging.getLogger(__name__)


def get_parser():
    """The options of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exp_dir", metavar="EXP", help="exp of a recipe, or exp/results_<mix_tag>")
    parser.add_argument("--output_dir", help="directory to write; default: EXP/report")
    parser.add_argument("--dump_dir", help="where the audio is; default: dump beside exp")
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of processes")
    parser.add_argument("--redo", action="store_true", help="make a page again that is there")
    return parser


def main(argv=None):
    """Write the page, after all that it needs."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    output_dir = Path(args.output_dir or Path(args.exp_dir) / "report")
    path = output_dir / "index.html"
    if path.exists() and not args.redo:
        raise UserError(f"{path}: is there already; give --redo, or another --output_dir")
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.files import write_text
    from espnet_tse_ser.report import page
    from espnet_tse_ser.report.results import environment
    from espnet_tse_ser.report.stamp import Stamp, commit_of

    experiment = page.read_experiment(args.exp_dir, args.dump_dir)
    check_no_input(output_dir, [args.exp_dir, experiment.base, args.dump_dir], "--output_dir")
    path.unlink(missing_ok=True)  # what is beside it is no longer its own
    seconds = page.write_audio_of(experiment, output_dir, args.nj)
    recipe = experiment.base.absolute().parent
    stamp = {k: v for k, v in experiment.results["scheme"].items() if k in vars(Stamp())}
    today = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    text = page.render(
        title=f"{recipe.parent.name}/{recipe.name}: {experiment.directory.name}",
        about=f"{Stamp(**stamp).text().replace('**', '')}.",
        signals=experiment.signals,
        documents=list(page.documents(experiment, output_dir)),
        data=page.page_data(experiment, seconds),
        command=f"tse-ser report {shlex.join(sys.argv[1:] if argv is None else argv)}",
        facts={"date": today, **environment(), "git commit": commit_of()},
        steps=_steps(experiment.base),
        configurations=_configurations(experiment.base),
    )
    write_text(path, text)
    logger.info(
        "wrote %s, %d utterances; it holds speech of the corpora: pass it on only as their terms "
        "allow",
        path,
        len(seconds),
    )


def _steps(base):
    """Name of each step -> its command and options."""
    from espnet_tse_ser.jobs.marks import read_record

    steps = {}
    for mark in sorted(base.rglob(".done*"), key=lambda path: path.stat().st_mtime):
        command, *options = read_record(mark).split("\n")
        options = [line for line in options if line.startswith("--")]
        step = mark.name.removeprefix(".done").replace(".", ": ")
        steps[f"{_named(mark.parent, base)}{step}"] = "\n".join([command, *options])
    return steps


def _configurations(base):
    """Path -> text of the configuration of the first run of each training."""
    from espnet_tse_ser.files import read_text

    first = {}
    for path in sorted([*base.glob("*/config.yaml"), *base.glob("*/fold*/config.yaml")]):
        first.setdefault(path.relative_to(base).parts[0], path)
    return {_named(path, base): read_text(path) for path in first.values()}


def _named(path, base):
    """A path as one names it in the recipe, wherever that is."""
    return (Path(base.absolute().name) / path.relative_to(base)).as_posix()


if __name__ == "__main__":
    sys.exit(run(main))
