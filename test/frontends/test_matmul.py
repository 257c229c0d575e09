"""Products and their gradients against PyTorch's, in every layout and type."""

import os
import subprocess
import sys

import pytest
import torch

from espnet_tse_ser.frontends.td_speakerbeam.matmul import Product, matmul


def _draw(rows, columns, transposed, dtype):
    tensor = torch.randn(columns, rows).t() if transposed else torch.randn(rows, columns)
    return tensor.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 1), (1, 7, 64), (33, 20, 130)])
def test_equals_the_exact_product(shape, transposed, dtype):
    torch.manual_seed(0)
    rows, inner, columns = shape
    a = _draw(rows, inner, transposed[0], dtype)
    b = _draw(inner, columns, transposed[1], dtype)
    product = matmul(a, b)
    assert product.dtype == dtype and product.shape == (rows, columns)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(
        product.double(), a.double() @ b.double(), atol=tolerance, rtol=tolerance
    )


def test_multiplies_in_another_type_and_returns_its_own():
    torch.manual_seed(0)
    a, b = torch.randn(8, 16), torch.randn(16, 8)
    product = matmul(a, b, torch.bfloat16)
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert product.dtype == torch.float32
    torch.testing.assert_close(product.double(), rounded, atol=0.05, rtol=0.01)
    assert (product - a @ b).abs().max() > 1e-4


def test_gradients():
    torch.manual_seed(0)
    a = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    b = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(Product.apply, (a, b))


def test_gradients_are_of_autocasts_type_too():
    torch.manual_seed(0)
    a, b = torch.randn(4, 300, requires_grad=True), torch.randn(300, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = Product.apply(a, b)
    (mine,) = torch.autograd.grad(out.sum(), a, retain_graph=True)
    rounded = torch.ones(4, 5) @ b.detach().bfloat16().float().t()
    torch.testing.assert_close(mine, rounded, atol=0.05, rtol=0.01)
    assert not torch.equal(mine, torch.ones(4, 5) @ b.detach().t())


def test_shapes_that_do_not_come_back_are_forgotten():
    """400 of them take 0.9 GB with oneDNN's default, of 1024."""
    script = (
        "import resource, torch\n"
        "from espnet_tse_ser.frontends.td_speakerbeam.matmul import matmul\n"
        "torch.set_num_threads(1)\n"
        "a, b = torch.ones(1500, 128), torch.ones(128, 512)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "matmul(a, b)\n"
        "before = peak()\n"
        "for rows in range(1000, 1400):\n"
        "    matmul(a[:rows], b)\n"
        "print(peak() - before)\n"
    )
    environment = {k: v for k, v in os.environ.items() if "PRIMITIVE_CACHE" not in k}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert int(done.stdout) < 500_000  # kB
