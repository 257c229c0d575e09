"""Muon: steps of weight matrices along the orthogonal factor of their momentum, AdamW for the rest.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); steps are as large
as AdamW's (Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982), so that rate and
weight decay mean the same to both.
"""

import math

import torch

_ITERATION = (3.4445, -4.775, 2.0315)  # a, b, c of a x + b x^3 + c x^5, of Jordan et al.
_ITERATIONS = 5
_RMS = 0.2  # of AdamW's steps


def orthogonalize(matrix):
    """The orthogonal factor of a matrix, roughly: its singular values become 0.7 to 1.2.

    Args:
        matrix: ``(m, n)``, not 0. The products are in bfloat16.
    """
    a, b, c = _ITERATION
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    x = x if wide else x.T
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two dimensions, of both above 1; AdamW for the others.

    PyTorch's Muon takes matrices only. This is one optimizer for all, whose groups schedules and
    plans (training/plan.py) may divide as they need.

    Args:
        params, lr, weight_decay: of `torch.optim.AdamW`. momentum: of matrices. betas, eps: of the
            others.
    """

    def __init__(
        self, params, lr=1e-3, weight_decay=0.01, momentum=0.95, betas=(0.9, 0.98), eps=1e-8
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults | {"betas": betas, "eps": eps})

    @staticmethod
    def is_matrix(weight):
        """Whether a parameter is one that Muon is for."""
        return weight.dim() == 2 and min(weight.shape) > 1

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._matrix if self.is_matrix(weight) else self._adam
                    weight.add_(update(weight, group), alpha=-group["lr"])
        return loss

    def _matrix(self, weight, group):
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(group["momentum"]).add_(weight.grad)
        ahead = weight.grad + group["momentum"] * state["momentum"]
        return _RMS * math.sqrt(max(weight.shape)) * orthogonalize(ahead)

    def _adam(self, weight, group):
        state, (first, second) = self.state[weight], group["betas"]
        if not state:
            state["steps"] = 0
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["steps"] += 1
        state["mean"].lerp_(weight.grad, 1 - first)
        state["square"].lerp_(weight.grad.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        square = state["square"] / (1 - second ** state["steps"])
        return mean / (square.sqrt() + group["eps"])
