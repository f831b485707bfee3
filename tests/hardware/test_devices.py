"""The parts of --deterministic that need no GPU."""

import pytest
import torch

from cyclegan.hardware.devices import reflection_pad2d_backward


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (3, 3, 3, 3), (0, 2, 1, 0), (4, 0, 0, 5)])
@pytest.mark.parametrize("shape", [(2, 3, 8, 7), (1, 1, 6, 6)])
def test_the_deterministic_gradient_of_reflection_padding_equals_torchs(padding, shape):
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(image, padding, mode="reflect")
    gradient = torch.randn_like(padded)
    (expected,) = torch.autograd.grad(padded, image, gradient)
    folded = reflection_pad2d_backward(gradient, image, list(padding))
    torch.testing.assert_close(folded, expected, rtol=0, atol=1e-12)
