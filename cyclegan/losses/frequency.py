"""Losses that look at a part of the spectrum."""

import operator

from torch import Tensor
from torch.nn import functional


class LowFrequency:
    """Mean absolute difference of the images after averaging over `size` x `size` pixels:
    colours and light must stay, detail may change (after Torbunov et al., 2023, uvcgan2).

    NCHW images of one shape; windows at the right and the bottom may hold fewer pixels.
    """

    def __init__(self, size: int = 8) -> None:
        if size < 1:
            raise ValueError("size must be at least 1")
        self.size = operator.index(size)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        window = (min(self.size, height), min(self.size, width))
        return functional.avg_pool2d(input - target, window, ceil_mode=True).abs().mean()
