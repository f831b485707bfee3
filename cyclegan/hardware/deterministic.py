"""--deterministic: the same numbers every time, on CUDA too."""

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Torch's own name of what is to be replaced.
_OPERATION = "reflection_pad2d_backward"


def compute_deterministically() -> None:
    """For the whole process, and before the first work of a GPU. What has no deterministic way
    raises RuntimeError from then on.
    """
    # cuBLAS sums in an order that depends on its workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if torch.cuda.is_available():
        _fold_borders()


@cache
def _fold_borders() -> Any:
    """Torch has no way for these, and networks of this family are full of them. What is given
    back is kept: with it the replacement would go.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl(_OPERATION, reflection_pad2d_backward, "CUDA")  # type: ignore[no-untyped-call]
    return library


def reflection_pad2d_backward(gradient: Tensor, input: Tensor, padding: list[int]) -> Tensor:
    """The gradient of reflected padding (left, right, top, bottom) of ... x H x W: what fell on
    the borders is folded back, in a fixed order, where CUDA adds as it comes.
    """
    left, right, top, bottom = padding
    return _folded(_folded(gradient, -1, left, right), -2, top, bottom).contiguous()


def _folded(gradient: Tensor, dim: int, before: int, after: int) -> Tensor:
    side = gradient.shape[dim] - before - after
    inner = gradient.narrow(dim, before, side).clone()
    # The pixel at the edge is not repeated: reflection begins with its neighbour.
    inner.narrow(dim, 1, before).add_(gradient.narrow(dim, 0, before).flip(dim))
    outer = gradient.narrow(dim, before + side, after)
    inner.narrow(dim, side - 1 - after, after).add_(outer.flip(dim))
    return inner
