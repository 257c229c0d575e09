"""The trainings of a system, one a fold and seed: what options say of them, and their names."""

from espnet_tse_ser.errors import UserError


def chosen_folds(text):
    """The folds of the option ``--folds``, with spaces or commas between; None for None: all.

    Raises:
        UserError: it is empty.
    """
    folds = None if text is None else text.replace(",", " ").split()
    if folds == []:
        raise UserError('--folds is empty; name folds, e.g. "1 2", or leave it out for all')
    return folds


def all_seeds(main_seed, further):
    """The seeds of the options ``--seed`` and ``--seeds`` as strings, that of ``--seed`` first.

    Raises:
        UserError: one is there twice.
    """
    seeds = [str(seed) for seed in (main_seed, *further)]
    for number, seed in enumerate(seeds):
        if seed in seeds[:number]:
            raise UserError(
                f'--seeds "{" ".join(seeds[1:])}": seed {seed} is there twice (that of --seed is '
                f"{main_seed}); name each further seed once"
            )
    return seeds


def run_name(fold, seed, main_seed):
    """The directory of a training: that of the main seed is named after the fold alone."""
    return f"fold{fold}" if seed == main_seed else f"fold{fold}_seed{seed}"
