"""Stage 5: what the pretraining pool gives: sizes, levels, and who is left out and why."""

import argparse
import sys
from pathlib import Path

from espnet_tse_ser.errors import run
from espnet_tse_ser.values.numbers import SEED

DRAWS = 200  # mixtures drawn to describe their distribution


def get_parser():
    """The options of stage 5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML of the TSE training")
    parser.add_argument("--pool", required=True, help="formatted directory of the pool")
    parser.add_argument("--noise", help="formatted directory of noise, as of the training")
    parser.add_argument("--output_dir", required=True, help="receives stats.json")
    parser.add_argument("--seed", type=SEED.option, default=0, help="seed of the training")
    return parser


def main(argv=None):
    """Draw mixtures as the training will, and write their statistics."""
    args = get_parser().parse_args(argv)
    import logging

    from espnet_tse_ser.configuration import read_configuration
    from espnet_tse_ser.files import write_json
    from espnet_tse_ser.mixtures.pool import Pool
    from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pretraining_mixtures
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.training.checkpoints import get_rate
    from espnet_tse_ser.training.dynamic import mixing_options

    log_to_stderr()
    config = read_configuration(args.config)
    where = config.where("mixing_conf")
    options = mixing_options(PretrainingOptions, config.get("mixing_conf", {}), where)
    rate = get_rate(config, "sample_rate", args.config)
    pool = Pool.read(args.pool, rate)
    noise = None if args.noise is None else Pool.read(args.noise, rate)
    parts = pretraining_mixtures(pool, options, args.seed, noise)
    stats = {
        "utterances": len(pool),
        "seconds": round(pool.seconds, 3),
        "speakers": len(pool.by_group),
    }
    for name, mixtures in zip(("train", "valid"), parts, strict=True):
        stats[name] = _describe(mixtures, args.seed)
        logging.info(
            "%s: %d of the pool's %d speakers, %.2f h",
            *(name, len(mixtures.pool.by_group), len(pool.by_group)),
            mixtures.pool.seconds / 3600,
        )
        if mixtures.left_out:
            logging.warning(
                "%s: %d speaker(s) have too little speech for what a mixture takes of its target "
                "and are never one: %s",
                name,
                len(mixtures.left_out),
                " ".join(mixtures.left_out),
            )
    write_json(Path(args.output_dir) / "stats.json", stats)
    logging.info("wrote %s", Path(args.output_dir) / "stats.json")


def _describe(mixtures, seed):
    """Speakers, and mean and deviation of the input SI-SDR, of one part of the pool."""
    import numpy as np

    from espnet_tse_ser.metrics.signal import si_sdr

    values = []
    for index in range(DRAWS):
        _, arrays = mixtures.example(np.random.default_rng([seed, 3, index]))
        values.append(si_sdr(arrays["speech_ref1"], arrays["speech_mix"]))
    return {
        "seconds": round(mixtures.pool.seconds, 3),
        "speakers": len(mixtures.pool.by_group),
        "target_speakers": len(mixtures.usable),
        "left_out": mixtures.left_out,
        "si_sdr_mix_mean": round(float(np.mean(values)), 4),
        "si_sdr_mix_std": round(float(np.std(values)), 4),
    }


if __name__ == "__main__":
    sys.exit(run(main))
