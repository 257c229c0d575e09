"""Under which scheme figures were measured and what of: printed with every table."""

import functools
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.ids import fold_key
from espnet_tse_ser.values.schemes import OPTIMISTIC, SCHEMES

POOLING = (
    "every figure is of all utterances together, those of all folds pooled, and no mean over "
    "folds; with several seeds an utterance counts once, as the mean over its seeds"
)


@dataclass(frozen=True)
class Stamp:
    """What a table is of.

    The scheme (None: not stated), how the folds are split in words (first the dev sets), folds and
    seeds, and how many utterances are tested, of how many that the mixture table has (None: not
    known).
    """

    scheme: str | None = None
    dev: str | None = None
    folds: tuple = ()
    seeds: tuple = ()
    tested: int | None = None
    utterances: int | None = None

    @property
    def optimistic(self):
        return self.scheme == OPTIMISTIC

    @property
    def warning(self):
        """What to write on a plot, or nothing."""
        return SCHEMES[OPTIMISTIC] if self.optimistic else ""

    def text(self, by_fold=False):
        """One line of Markdown; ``by_fold``: for a table that shows each fold by itself."""
        scheme = f"Scheme {self.scheme or 'not stated'}"
        if self.optimistic:
            scheme = f"**{scheme}, {SCHEMES[OPTIMISTIC]}**"
        pooled = "pooled (figures of all utterances together, no means over folds)"
        how = "each by itself" if by_fold else pooled
        parts = [scheme]
        parts += [f"dev: {self.dev}"] if self.dev else []
        parts += [f"fold {self.folds[0]}"] if len(self.folds) == 1 else []
        parts += [f"folds {', '.join(self.folds)} {how}"] if len(self.folds) > 1 else []
        parts += [f"folds {how}"] if not self.folds else []
        if self.utterances is not None:
            n = "all" if self.tested == self.utterances else f"{self.tested} of"
            parts.append(f"{n} {self.utterances} utterances")
        parts += [f"seed {self.seeds[0]}"] if len(self.seeds) == 1 else []
        if len(self.seeds) > 1:
            once = "pooled (an utterance counts once, as the mean over them)"
            parts.append(f"seeds {', '.join(self.seeds)} {once}")
        return "; ".join(parts)

    def as_dict(self):
        return {**asdict(self), "optimistic": self.optimistic, "pooling": POOLING}


def add_scheme_option(parser):
    """Add ``--scheme`` to a command line."""
    known = "; ".join(f"{name} ({meaning})" for name, meaning in SCHEMES.items())
    parser.add_argument("--scheme", help=f"that the systems were trained under: {known}")


def stamp_of(rows):
    """The stamp of the rows of a score table."""
    folds, seeds = (sorted({r[c] for r in rows}, key=fold_key) for c in ("fold", "seed"))
    columns = ("scheme", "dev", "utterances")
    scheme, dev, utterances = (None if rows[0][c] == "n/a" else rows[0][c] for c in columns)
    tested = len({row["id"] for row in rows})
    return Stamp(scheme, dev, tuple(folds), tuple(seeds), tested, utterances and int(utterances))


def measure(table_dir, tests, scheme=None):
    """How the folds are split, in words, and how many utterances the mixture table has in all.

    The words are of the dev sets and, where it is so, of noise in both training and test.

    Args:
        table_dir: of stage 2, with the lists of the folds.
        tests: what is tested of which folds, from `tables.read_tests`. scheme: None: not known.
    """
    from espnet_tse_ser.audio.id_list import read_ids, select
    from espnet_tse_ser.metrics.tables import read_tests
    from espnet_tse_ser.mixtures.splits import SIDES, describe_dev, shared_noise

    path = Path(table_dir) / "mixtures.tsv"
    table = _by_id(read_tests(path))
    speaker_of = {utt: row["speaker"] for utt, row in table.items()}
    splits = []
    for fold in tests:
        lists = {side: path.parent / "splits" / f"fold{fold}" / f"{side}.lst" for side in SIDES}
        splits.append({side: select(speaker_of, read_ids(lists[side]), path) for side in SIDES})
    words = describe_dev(splits, speaker_of, scheme)
    if shared_noise(splits, *(_noise_of(rows) for rows in (table, _by_id(tests)))):
        words += "; noise shared between train and test"
    return words, len(speaker_of)


def _by_id(tests):
    return {utt: row for rows in tests.values() for utt, row in rows.items()}


def _noise_of(rows):
    """Recordings of noise in mixtures: a table without any has no such column."""
    noise = {utt: row.get("noise_groups") for utt, row in rows.items()}
    return {utt: groups.split(",") if groups else [] for utt, groups in noise.items()}


def check_name(scheme, where="--scheme"):
    """Raise `UserError` unless the scheme is known, or None."""
    if scheme is not None and scheme not in SCHEMES:
        raise UserError(f"{where} '{scheme}': no such scheme; known: {', '.join(SCHEMES)}")


def check_table(path, rows):
    """Raise `UserError` unless the rows of a score table fit the scheme that they name."""
    scheme = None if rows[0]["scheme"] == "n/a" else rows[0]["scheme"]
    check_name(scheme, f"{path}: scheme")
    if any("hypothesis_wa" in row for row in rows) != (scheme == OPTIMISTIC):
        raise UserError(
            f"{path}: is of the scheme {rows[0]['scheme']}, but only tables of {OPTIMISTIC} have "
            "the column hypothesis_wa, and all of them; delete it and run its stage again"
        )


def check_scheme(scheme, path, rows):
    """Raise `UserError` unless the rows of a table fit the scheme.

    With best_test_epoch, and with no other, a table has ``hypothesis_wa``: the hypothesis of the
    epoch that is best in WA, while ``hypothesis`` is of the one that is best in UA.
    """
    check_name(scheme)
    has_both = any("hypothesis_wa" in row for row in rows)
    if has_both == (scheme == OPTIMISTIC):
        return
    if has_both:
        raise UserError(
            f"{path}: has the column hypothesis_wa, which only {OPTIMISTIC} has, but --scheme is "
            f"{scheme or 'not given'}; give --scheme {OPTIMISTIC}, or delete the file and run "
            "its stage again"
        )
    raise UserError(
        f"{path}: has no column hypothesis_wa, which {OPTIMISTIC} needs; delete it and run its "
        "stage again under that scheme"
    )


def made_with(configuration, scheme, dev, utterances):
    """The columns of a score table that say what made it, see `tables.MADE_WITH`."""
    return {
        "configuration": configuration,
        "scheme": scheme or "n/a",
        "dev": dev,
        "utterances": utterances,
        "commit": commit_of() or "n/a",
    }


@functools.cache
def commit_of():
    """The commit of this source tree ("-dirty" with local changes), or None outside git."""
    source = Path(__file__).resolve()
    try:
        for command in (
            # an installed copy may lie in a checkout of something else
            ["git", "ls-files", "--error-unmatch", source.name],
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        ):
            done = subprocess.run(
                command, cwd=source.parent, capture_output=True, text=True, check=True
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
