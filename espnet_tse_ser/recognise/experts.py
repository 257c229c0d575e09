"""Experts that tasks share, each frame of a task by one of them."""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask


class SparseExperts(torch.nn.Module):
    """Top-1 routing of frames to experts, by a gate of each task.

    Of Sparse MERIT (Tzeng, Busso, Lee, arXiv 2509.08470): an expert is a layer, ReLU and a layer; a
    task gets, of each frame, the output of the expert that its gate gives the highest probability,
    times this. The gates learn to use all experts by the loss of Fedus, Zoph, Shazeer ("Switch
    transformers", JMLR 2022, equation 4).

    Args:
        input_size: channels in. size: channels out. hidden: of an expert. num_experts: of all
            tasks together. num_tasks: each has a gate.
    """

    def __init__(self, input_size, size, hidden, num_experts, num_tasks):
        super().__init__()
        self.experts = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(input_size, hidden),
                torch.nn.ReLU(),
                torch.nn.Linear(hidden, size),
            )
            for _ in range(num_experts)
        )
        self.gates = torch.nn.ModuleList(
            torch.nn.Linear(input_size, num_experts) for _ in range(num_tasks)
        )

    def forward(self, x, num_frames):
        """Route ``(B, F, input_size)`` with valid frames ``(B,)``.

        Returns:
            for each task ``(B, F, size)``; and the loss of load balance (scalar): 1 where all
            experts have equal shares, up to their number where one has all.
        """
        outputs = torch.stack([expert(x) for expert in self.experts], 2)
        valid = frame_mask(num_frames, x.shape[1])
        routed, balance = [], 0.0
        for gate in self.gates:
            probabilities = gate(x).softmax(2)
            weight, chosen = probabilities.max(2)
            chosen = F.one_hot(chosen, len(self.experts)).to(weight.dtype)
            routed.append((outputs * (chosen * weight[..., None])[..., None]).sum(2))
            shares = chosen[valid].mean(0), probabilities[valid].mean(0)
            balance = balance + len(self.experts) * (shares[0] * shares[1]).sum()
        return routed, balance / len(self.gates)
