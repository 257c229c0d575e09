"""Stage 7: make the target of every mixture audible (the denoised set); restartable."""

import argparse
import logging
import shutil
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import is_written
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.values.numbers import COUNT

SOURCE = "source.json"  # which weights and mixtures the directory is made from; any job writes it


def get_parser():
    """The options of stage 7."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="front-end: experiment of stage 6")
    parser.add_argument("--weights", help="weights file (default: valid.loss.best.pth)")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--output_dir", required=True, help="denoised directory to write")
    parser.add_argument(
        "--job", type=COUNT.option, default=1, help="which of the --nj jobs this is, from 1"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of jobs")
    parser.add_argument("--combine", action="store_true", help="write the data directory instead")
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="mixtures at a time")
    add_options(parser)
    return parser


def main(argv=None):
    """Extract one job's mixtures, or combine."""
    args = get_parser().parse_args(argv)
    if args.job > args.nj:
        raise UserError(f"--job {args.job} --nj {args.nj}: the job must lie in 1 to nj")
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.audio.outputs import check_no_input
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    data_dir, output_dir = Path(args.data_dir), Path(args.output_dir)
    check_no_input(output_dir, [data_dir, args.model_dir], "--output_dir")
    mixtures = read_table(data_dir / "wav.scp")
    paths = {utt: (output_dir / "audio" / f"{utt}.flac").absolute() for utt in mixtures}
    if args.combine:
        _combine(data_dir, output_dir, paths)
        return
    device = set_up(args, args.nj)
    from espnet_tse_ser.frontends.model_files import files_of

    files = files_of(args.model_dir, args.weights)
    _check_source(args, files, output_dir)
    # Neighbours share their speaker, and so enrollments, which are embedded once in a job.
    first, end = (len(mixtures) * job // args.nj for job in (args.job - 1, args.job))
    utts = list(mixtures)[first:end]
    wanted = {utt for utt in utts if not is_written(paths[utt])}
    enrollments = _enrollments(data_dir, utts) if files.needs_enrollment else None
    if wanted:
        _extract(args, utts, wanted, mixtures, enrollments, paths, device)
    logging.info("%d extracted", len(wanted))


def _enrollments(data_dir, utts):
    """id -> audio of the enrollment."""
    from espnet_tse_ser.audio.kaldi_dir import read_table

    enrollments = read_table(data_dir / "enroll_spk1.scp")
    missing = [utt for utt in utts if utt not in enrollments]
    if missing:
        raise UserError(
            f"{data_dir / 'enroll_spk1.scp'}: no enrollment for '{missing[0]}'; run stage 4 again"
        )
    return enrollments


def _check_source(args, model, output_dir):
    """Note which weights and mixtures the directory is made from; refuse one made from others."""
    from espnet_tse_ser.files import checksum, read_json, write_json

    if not model.weights.is_file():
        raise UserError(f"--weights {model.weights}: no such file")
    files = {"weights": model.weights, "mixtures": Path(args.data_dir) / "wav.scp"}
    source = {k: checksum(path) for k, path in files.items()}
    record = output_dir / SOURCE
    if not record.is_file():
        write_json(record, source)
    elif read_json(record) != source:
        changed = [str(files[k]) for k in files if read_json(record).get(k) != source[k]]
        raise UserError(
            f"{output_dir} was extracted with other {' and '.join(changed)}; remove it to extract "
            "again, or use another tag"
        )


def _extract(args, utts, wanted, mixtures, enrollments, paths, device):
    """Extract what is ``wanted`` of ``utts``, in the batches of all of them.

    The last digits depend on what is computed together: a job that goes on gives what one gives
    that was left alone.
    """
    from espnet_tse_ser.audio.reading import write_audio
    from espnet_tse_ser.audio.signals import read_lengths, read_signal
    from espnet_tse_ser.frontends.extraction import extract
    from espnet_tse_ser.frontends.loading import load_front_end
    from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
    from espnet_tse_ser.progress import progress
    from espnet_tse_ser.training.batches import inference_batches

    front_end = load_front_end(args.model_dir, args.weights, device)
    fs = front_end.rate
    lengths = read_lengths(Path(args.data_dir) / "utt2num_samples", utts)
    batches = inference_batches(lengths, args.batch_size, fs)
    while wanted.isdisjoint(batches[-1]):
        batches.pop()
    for batch in progress(batches, f"extract {args.job}/{args.nj}"):
        enrolled = []
        if enrollments is not None:
            enrolled = [[read_signal(u, enrollments[u], fs, None, MIN_SAMPLES) for u in batch]]
        if wanted.isdisjoint(batch):
            front_end.note(*enrolled)
            continue
        signals = [read_signal(u, mixtures[u], fs, lengths[u], MIN_SAMPLES) for u in batch]
        estimates = extract(front_end, signals, *enrolled, names=batch)
        for utt, estimate in zip(batch, estimates, strict=True):
            if utt in wanted:
                write_audio(paths[utt], estimate, fs)


def _combine(data_dir, output_dir, paths):
    from espnet_tse_ser.audio.kaldi_dir import write_table
    from espnet_tse_ser.files import clear_remains

    clear_remains(output_dir / SOURCE)
    missing = [str(path) for path in paths.values() if not is_written(path)]
    if missing:
        raise UserError(f"{missing[0]} and {len(missing) - 1} more are not extracted; run stage 7")
    for source in data_dir.iterdir():
        if source.is_file() and source.name != "wav.scp" and not source.name.startswith("."):
            shutil.copyfile(source, output_dir / source.name)
    write_table(output_dir / "wav.scp", paths)


if __name__ == "__main__":
    sys.exit(run(main))
