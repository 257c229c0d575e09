"""Under which protocol figures were measured: printed with every table."""

from dataclasses import asdict, dataclass

from espnet_tse_ser.errors import UserError

PROTOCOLS = {
    "loso": "test on each group of speakers in turn",
    "loso_speaker": "test on each speaker in turn, dev on the rest of the group",
    "best_test_epoch": "optimistic: epoch chosen on the test fold",
}
OPTIMISTIC = "best_test_epoch"


@dataclass(frozen=True)
class Stamp:
    """The protocol (None: not stated), the dev set in words, folds and seeds of a table."""

    protocol: str | None = None
    dev: str | None = None
    folds: tuple = ()
    seeds: tuple = ()

    @property
    def optimistic(self):
        return self.protocol == OPTIMISTIC

    @property
    def warning(self):
        """What to write on a plot, or nothing."""
        return PROTOCOLS[OPTIMISTIC] if self.optimistic else ""

    def text(self):
        """One line of Markdown."""
        protocol = f"Protocol {self.protocol or 'not stated'}"
        if self.optimistic:
            protocol = f"**{protocol}, {PROTOCOLS[OPTIMISTIC]}**"
        parts = [protocol, f"dev: {self.dev}" if self.dev else ""]
        for name, values in (("fold", self.folds), ("seed", self.seeds)):
            if values:
                parts.append(f"{name}{'s' * (len(values) > 1)} {', '.join(values)}")
        return "; ".join(part for part in parts if part)

    def as_dict(self):
        return {**asdict(self), "optimistic": self.optimistic}


def add_protocol_option(parser):
    """Add ``--protocol`` to a command line."""
    known = "; ".join(f"{name} ({meaning})" for name, meaning in PROTOCOLS.items())
    parser.add_argument("--protocol", help=f"that the systems were trained under: {known}")


def add_dev_option(parser):
    """Add ``--dev`` to a command line."""
    parser.add_argument(
        "--dev", help='the dev set in words, printed with every table, e.g. "speaker 0.1"'
    )


def stamp_of(args, rows):
    """The stamp of the rows of a table, with the options of a command line."""
    from espnet_tse_ser.metrics.tables import fold_key

    folds, seeds = (sorted({r[c] for r in rows}, key=fold_key) for c in ("fold", "seed"))
    return Stamp(args.protocol, args.dev, tuple(folds), tuple(seeds))


def check_name(protocol):
    """Raise `UserError` unless the protocol is known, or None."""
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol '{protocol}': no such protocol; known: {', '.join(PROTOCOLS)}")


def check_protocol(protocol, path, rows):
    """Raise `UserError` unless the rows of a table fit the protocol.

    With best_test_epoch, and with no other, a table has ``hypothesis_wa``: the hypothesis of the
    epoch that is best in WA, while ``hypothesis`` is of the one that is best in UA.
    """
    check_name(protocol)
    has_both = sum("hypothesis_wa" in row for row in rows)
    if 0 < has_both < len(rows):
        raise UserError(
            f"{path}: {has_both} of {len(rows)} rows have hypothesis_wa; run stage 12 again for "
            "all folds and seeds"
        )
    if bool(has_both) == (protocol == OPTIMISTIC):
        return
    if has_both:
        raise UserError(
            f"{path}: has the column hypothesis_wa, which only {OPTIMISTIC} has, but --protocol is "
            f"{protocol or 'not given'}; give --protocol {OPTIMISTIC}, or delete the file and run "
            "its stage again"
        )
    raise UserError(
        f"{path}: has no column hypothesis_wa, which {OPTIMISTIC} needs; delete it and run its "
        "stage again under that protocol"
    )
