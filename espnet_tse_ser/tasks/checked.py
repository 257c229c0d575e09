"""What a task has to say about its options, and what can be said of them once there is a model."""

from espnet2.train.distributed_utils import DistributedOption
from espnet2.utils.build_dataclass import build_dataclass

from espnet_tse_ser.tasks.options import check_schedule
from espnet_tse_ser.training.plan import fit_plan
from espnet_tse_ser.training.schedulers import count_updates, has_epochs, in_steps


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
        """ESPnet's, of what is trained by the plan, once that fits the model.

        A schedule in epochs is put into steps: ESPnet makes it next.
        """
        where = args.config or "the options"
        optimizers = super().build_optimizers(args, model)
        for optimizer in optimizers:
            fit_plan(args.plan, model, optimizer, f"{where}: plan")
        if args.scheduler is not None and has_epochs(args.scheduler_conf):
            distributed_option = build_dataclass(DistributedOption, args)
            factory = cls.build_iter_factory(args, distributed_option, mode="train")
            updates = count_updates(factory, args.accum_grad, where)
            args.scheduler_conf = in_steps(args.scheduler_conf, updates)
            check_schedule(args, f"{where}: scheduler_conf")
        return optimizers
