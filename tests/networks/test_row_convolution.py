"""Convolution to few channels."""

import pytest
import torch
from torch.nn import functional as F

from cyclegan.networks.cpu import row_convolution
from cyclegan.networks.cpu.row_convolution import RowConv2d, conv_by_rows


@pytest.mark.parametrize("kernel", [(7, 7), (3, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("size", [(7, 7), (20, 33)])
def test_row_by_row_is_the_same_convolution_with_the_same_gradients(kernel, size):
    torch.manual_seed(0)
    inputs = (
        torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 5, *kernel, dtype=torch.float64, requires_grad=True),
        torch.randn(3, dtype=torch.float64, requires_grad=True),
    )
    ours, expected = conv_by_rows(*inputs), F.conv2d(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(expected)
    for mine, its in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_only_float32_on_the_cpu_goes_row_by_row_and_a_switch_turns_it_off(monkeypatch):
    taken = []
    monkeypatch.setattr(
        row_convolution, "conv_by_rows", lambda *args: taken.append(1) or conv_by_rows(*args)
    )
    layer = RowConv2d(4, 3, 7)
    image = torch.randn(1, 4, 12, 12)
    expected = F.conv2d(image, layer.weight, layer.bias)
    torch.testing.assert_close(layer(image), expected)
    assert len(taken) == 1
    layer.by_rows = False
    assert torch.equal(layer(image), expected)
    layer.by_rows = True
    layer.double()(image.double())
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(image)
    assert len(taken) == 1


def test_weights_are_those_of_a_plain_convolution():
    assert RowConv2d(4, 3, 7).state_dict().keys() == torch.nn.Conv2d(4, 3, 7).state_dict().keys()
