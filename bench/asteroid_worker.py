"""Asteroid's Conv-TasNet, which makes a step for every line it reads; see asteroid.py.

Runs in asteroid's environment: imports nothing but PyTorch, asteroid and bench/floors.py.
"""

import json
import sys
import time

import torch
from asteroid.losses import singlesrc_neg_sisdr
from asteroid.models import ConvTasNet

from bench.floors import dense_flops


def build_step(job):
    """The model and a callable that makes a step of training, or of inference."""
    torch.manual_seed(0)
    model = ConvTasNet(**job["options"]).train(job["training"])
    target = 0.1 * torch.randn(job["batch"], job["samples"])
    mixture = target + 0.1 * torch.randn_like(target)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train():
        optimizer.zero_grad()
        loss = singlesrc_neg_sisdr(model(mixture)[:, 0], target).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    @torch.no_grad()
    def infer():
        model(mixture)

    return model, mixture, train if job["training"] else infer


def main():
    """Print the operations of a step, then the seconds of each."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    model, mixture, step = build_step(job)
    answer({"flops": dense_flops(model, lambda: model(mixture), job["training"])})
    for _ in sys.stdin:
        clock, cpu = time.perf_counter(), time.process_time()
        step()
        answer({"clock": time.perf_counter() - clock, "cpu": time.process_time() - cpu})


def answer(value):
    """One line of JSON."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
