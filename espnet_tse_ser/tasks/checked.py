"""What a task has to say about its options, and what can be said of them once there is a model."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.numbers import shown


class CheckedTask:
    """To be inherited before ESPnet's task; see `parse_task_options`.

    ``kinds``: name -> kind of options that are more special here than in ESPnet.
    ``needed_criteria``: what ``best_model_criterion`` must have in it.
    """

    kinds = {}
    needed_criteria = []

    @classmethod
    def check_options(cls, options, where):
        """Check those of the model, and put the values that are meant into ``options``.

        Args:
            options: namespace, whose other options are checked. where: function of the name of an
                option -> beginning of messages about it.
        """
        raise NotImplementedError

    @classmethod
    def measures(cls, options):
        """Phase -> name -> which is better, min or max, of what a training measures."""
        raise NotImplementedError

    @classmethod
    def build_optimizers(cls, args, model):
        """ESPnet's, if there is something to train, and everything that is to be frozen."""
        names = dict(model.named_parameters())
        where = f"{args.config or 'the options'}: freeze_param"
        for frozen in args.freeze_param:
            if not any(name == frozen or name.startswith(f"{frozen}.") for name in names):
                raise UserError(
                    f"{where}: the model has no parameter {shown(frozen)}; correct it, e.g. "
                    f"to {', '.join(dict.fromkeys(name.split('.')[0] for name in names))}"
                )
        if not any(parameter.requires_grad for parameter in names.values()):
            raise UserError(f"{where}: nothing is left to train; freeze less")
        return super().build_optimizers(args, model)
