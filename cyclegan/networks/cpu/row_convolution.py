"""Convolution to few channels by a large kernel, faster on the CPU: row by row."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.networks.cpu.winograd import is_eager_float32_on_cpu


class RowConv2d(nn.Conv2d):
    """`nn.Conv2d(in_channels, out_channels, size)` to a few channels, which would leave most of a
    CPU's vector registers empty. There it is one convolution by the kernel's rows, to `size` times
    as many channels, whose results are shifted by their rows and added.
    """

    # False selects the direct convolution.
    by_rows: bool = True

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size)

    def forward(self, input: Tensor) -> Tensor:
        if self.by_rows and is_eager_float32_on_cpu(input, self.weight):
            return conv_by_rows(input, self.weight, self.bias)
        return super().forward(input)


def conv_by_rows(padded: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.conv2d` with stride 1 and no padding, N x C x (H + h - 1) x (W + w - 1) and
    O x C x h x w to N x O x H x W.
    """
    num, channels, rows, columns = weight.shape
    kernel = weight.permute(2, 0, 1, 3).reshape(rows * num, channels, 1, columns)
    height = padded.shape[2] - rows + 1
    by_row = torch.split(functional.conv2d(padded, kernel), num, dim=1)
    shifted = [part[:, :, row : row + height] for row, part in enumerate(by_row)]
    total = torch.stack(shifted).sum(0) if rows > 1 else shifted[0]
    return total if bias is None else total + bias[:, None, None]
