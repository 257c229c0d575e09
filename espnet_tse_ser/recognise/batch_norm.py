"""Batch norm of pooled vectors."""

import torch
import torch.nn.functional as F


class BatchNorm(torch.nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`; a batch of one, which has no variance, gets running statistics."""

    def forward(self, x):
        """Normalise ``(B, D)``."""
        if self.training and len(x) == 1:
            running = self.running_mean, self.running_var
            return F.batch_norm(x, *running, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
