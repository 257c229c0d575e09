"""Batch norm against PyTorch's, and of a batch of one, which PyTorch's refuses."""

import pytest
import torch

from espnet_tse_ser.recognise.batch_norm import BatchNorm


@pytest.mark.parametrize("affine", [True, False])
def test_equals_pytorch_and_takes_a_batch_of_one(affine):
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5, affine=affine), torch.nn.BatchNorm1d(5, affine=affine)
    if affine:
        torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(3):
        x = 2 + torch.randn(7, 5)
        assert torch.equal(ours(x), theirs(x))
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    one = torch.randn(1, 5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs(one)
    torch.testing.assert_close(ours(one), theirs.eval()(one))
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())
