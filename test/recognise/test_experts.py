"""Routing: each frame of a task by one expert, balance, padding."""

import pytest
import torch

from espnet_tse_ser.recognise.experts import SparseExperts


@pytest.fixture
def experts():
    torch.manual_seed(0)
    return SparseExperts(5, 4, hidden=7, num_experts=3, num_tasks=2)


def test_a_frame_is_that_of_its_expert(experts):
    x, lengths = torch.randn(2, 9, 5), torch.tensor([9, 6])
    routed, _ = experts(x, lengths)
    used = set()
    for task, output in enumerate(routed):
        assert output.shape == (2, 9, 4)
        for frame, found in zip(x.reshape(-1, 5), output.reshape(-1, 4), strict=True):
            probabilities = experts.gates[task](frame).softmax(0)
            best = int(probabilities.argmax())
            used.add((task, best))
            expected = probabilities[best] * experts.experts[best](frame)
            torch.testing.assert_close(found, expected)
    assert len(used) > 3  # the tasks choose differently


def test_balance(experts):
    x = torch.randn(2, 50, 5)
    for gate in experts.gates:
        torch.nn.init.zeros_(gate.weight)
        gate.bias.data = torch.tensor([100.0, 0.0, 0.0])
    assert experts(x, torch.tensor([50, 50]))[1].item() == pytest.approx(3)
    for gate in experts.gates:
        torch.nn.init.zeros_(gate.bias)
    assert experts(x, torch.tensor([50, 50]))[1].item() == pytest.approx(1)


def test_padding_has_no_part_in_it(experts):
    x, lengths = torch.randn(1, 9, 5), torch.tensor([6])
    (first, second), balance = experts(x, lengths)
    (one, two), alone = experts(x[:, :6], lengths)
    torch.testing.assert_close(alone, balance)
    torch.testing.assert_close(torch.cat([one, two], 2), torch.cat([first, second], 2)[:, :6])


def test_everything_is_trained(experts):
    (first, second), balance = experts(torch.randn(4, 30, 5), torch.full((4,), 30))
    (first.square().sum() + second.square().sum() + balance).backward()
    assert all(p.grad is not None and p.grad.any() for p in experts.parameters())
