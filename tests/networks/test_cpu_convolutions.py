"""The convolutions of the CPU: 3x3 by Winograd's algorithm, and row by row."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.networks.cpu import row_convolution, winograd
from cyclegan.networks.cpu.row_convolution import RowConv2d, conv_by_rows
from cyclegan.networks.cpu.winograd import WinogradConv2d, conv3x3, is_faster

FORMATS = [torch.contiguous_format, torch.channels_last]
# Batch, channels in and out, height and width of the output.
SIZES = [(1, 3, 5, 1, 1), (2, 4, 3, 7, 9), (1, 8, 8, 16, 16), (2, 3, 2, 5, 4)]


def draw(
    size: tuple[int, int, int, int, int], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An input, weight and bias with requires_grad, and a gradient of the output."""
    batch, channels, outputs, height, width = size
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, channels, height + 2, width + 2), (outputs, channels, 3, 3), (outputs,)
    leaves = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    grad = torch.randn(batch, outputs, height, width, generator=generator, dtype=dtype)
    padded, weight, bias = (leaf.requires_grad_() for leaf in leaves)
    return padded, weight, bias, grad


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_output_and_gradients_equal_the_direct_convolution(size, memory_format):
    padded, weight, bias, grad = draw(size)
    padded = padded.detach().contiguous(memory_format=memory_format).requires_grad_()
    output = conv3x3(padded, weight, bias)
    expected = functional.conv2d(padded, weight, bias)
    assert relative(output, expected) < 1e-12
    leaves = padded, weight, bias
    found = torch.autograd.grad(output, leaves, grad)
    for a, b in zip(found, torch.autograd.grad(expected, leaves, grad), strict=True):
        assert relative(a, b) < 1e-12


@pytest.mark.parametrize("chunk", [1, 36 * 3 * 8 * 2])
def test_chunks_of_some_rows_add_up_to_the_whole(monkeypatch, chunk):
    monkeypatch.setattr(winograd, "CHUNK", chunk)
    padded, weight, _, grad = draw((2, 8, 8, 17, 12))
    found = torch.autograd.grad(conv3x3(padded, weight), (padded, weight), grad)
    direct = functional.conv2d(padded, weight)
    for a, b in zip(found, torch.autograd.grad(direct, (padded, weight), grad), strict=True):
        assert relative(a, b) < 1e-12


def test_in_float32_errors_are_within_1e_5_of_the_largest_value():
    padded, weight, bias, grad = draw((1, 64, 64, 32, 32), torch.float32)
    leaves = padded, weight, bias
    output = conv3x3(*leaves)
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = functional.conv2d(*exact_leaves)
    assert relative(output, exact) < 1e-5
    found = torch.autograd.grad(output, leaves, grad)
    expected = torch.autograd.grad(exact, exact_leaves, grad.double())
    for a, b in zip(found, expected, strict=True):
        assert relative(a, b) < 1e-5


def test_gradients_equal_finite_differences():
    padded, weight, bias, _ = draw((1, 2, 2, 5, 3))
    assert torch.autograd.gradcheck(conv3x3, (padded, weight, bias))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_output_and_gradient_keep_the_inputs_memory_format(memory_format):
    padded, weight, _, _ = draw((2, 4, 4, 9, 8))
    padded = padded.detach().contiguous(memory_format=memory_format).requires_grad_()
    output = conv3x3(padded, weight)
    # In both formats, as a gradient in the other format must be converted.
    for grad_format in FORMATS:
        grad = torch.ones_like(output).contiguous(memory_format=grad_format)
        (found,) = torch.autograd.grad(output, padded, grad, retain_graph=True)
        assert found.is_contiguous(memory_format=memory_format)
    assert output.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("frozen", ["padded", "weight"])
def test_a_frozen_tensor_gets_no_gradient_and_the_other_the_right_one(frozen):
    padded, weight, _, grad = draw((1, 3, 4, 8, 8))
    leaves = {"padded": padded, "weight": weight}
    leaves[frozen].requires_grad_(False)
    (wanted,) = (leaf for leaf in leaves.values() if leaf.requires_grad)
    (found,) = torch.autograd.grad(conv3x3(padded, weight), wanted, grad)
    (expected,) = torch.autograd.grad(functional.conv2d(padded, weight), wanted, grad)
    assert relative(found, expected) < 1e-12


def test_second_derivatives_equal_the_direct_convolution_also_for_a_constant_gradient():
    padded, weight, _, grad = draw((1, 2, 2, 4, 5))
    found, expected = [], []
    for conv, results in ((conv3x3, found), (functional.conv2d, expected)):
        (first,) = torch.autograd.grad(conv(padded, weight), padded, grad, create_graph=True)
        results += torch.autograd.grad((first**2).sum(), weight)
    assert relative(found[0], expected[0]) < 1e-12
    assert torch.autograd.gradgradcheck(conv3x3, (padded, weight))


def test_the_state_dict_has_the_keys_of_a_plain_convolution():
    plain = nn.Conv2d(4, 4, 3)
    assert WinogradConv2d(4, 4).state_dict().keys() == plain.state_dict().keys()
    WinogradConv2d(4, 4).load_state_dict(plain.state_dict())


def large(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    padded, weight, _, _ = draw((1, 256, 256, 64, 64), dtype)
    return padded, weight


def test_winograd_is_faster_for_large_float32_inputs_on_the_cpu():
    assert is_faster(*large())


def test_float64_small_inputs_and_autocast_use_the_direct_convolution():
    assert not is_faster(*large(torch.float64))
    padded, weight, _, _ = draw((1, 4, 4, 8, 8), torch.float32)
    assert not is_faster(padded, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_faster(*large())


@pytest.mark.parametrize("asked", [True, False])
def test_the_layer_uses_winograd_unless_it_is_switched_off(monkeypatch, asked):
    monkeypatch.setattr(winograd, "conv3x3", lambda *_: "the fast way")
    layer = WinogradConv2d(256, 256)
    layer.winograd = asked
    output = layer(torch.zeros(1, 256, 66, 66))
    assert isinstance(output, str) == asked


def test_switched_off_the_layer_is_the_plain_convolution():
    layer = WinogradConv2d(256, 256)
    layer.winograd = False
    image = torch.randn(1, 256, 34, 34, generator=torch.Generator().manual_seed(0))
    expected = functional.conv2d(image, layer.weight, layer.bias)
    torch.testing.assert_close(layer(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [(7, 7), (3, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("size", [(7, 7), (20, 33)])
def test_row_convolution_has_the_output_and_gradients_of_the_direct_one(kernel, size):
    torch.manual_seed(0)
    inputs = (
        torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 5, *kernel, dtype=torch.float64, requires_grad=True),
        torch.randn(3, dtype=torch.float64, requires_grad=True),
    )
    ours, expected = conv_by_rows(*inputs), functional.conv2d(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(expected)
    for mine, its in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_only_float32_on_the_cpu_uses_row_convolution_and_a_switch_turns_it_off(monkeypatch):
    taken = []
    monkeypatch.setattr(
        row_convolution, "conv_by_rows", lambda *args: taken.append(1) or conv_by_rows(*args)
    )
    layer = RowConv2d(4, 3, 7)
    image = torch.randn(1, 4, 12, 12)
    expected = functional.conv2d(image, layer.weight, layer.bias)
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


def test_row_convolution_has_the_keys_of_a_plain_convolution():
    assert RowConv2d(4, 3, 7).state_dict().keys() == torch.nn.Conv2d(4, 3, 7).state_dict().keys()
