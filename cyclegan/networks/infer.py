"""What architecture a weight file belongs to, told from its keys and shapes alone."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cyclegan.errors import UserError

_EDSR_BLOCK = re.compile(r"body\.\d+\.convs\.0\.weight")
_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.(\d+)\.weight")


def generator_expression(weights: Mapping[str, Tensor], *, source: Path) -> str:
    """The --generator expression of a state dict: a resnet's, ours or the classic one's, or an
    edsr's. Raises UserError for any other network.
    """
    options = _resnet(weights) or _edsr(weights)
    if options is None:
        raise UserError(
            f"{source} holds no generator that can be told from its keys (resnet and edsr can): "
            "translate with --name of its run instead"
        )
    kind = "edsr" if "fold" in options else "resnet"
    return f"{kind}({', '.join(f'{name}={value}' for name, value in options.items())})"


def _edsr(weights: Mapping[str, Tensor]) -> dict[str, object] | None:
    head = weights.get("head.weight")
    if head is None or head.ndim != 4 or "fine.weight" not in weights:
        return None
    side, factor = weights.get("highpass_side"), weights.get("reduce_factor")
    return {
        "channels": head.shape[0],
        "blocks": sum(bool(_EDSR_BLOCK.fullmatch(key)) for key in weights),
        "fold": math.isqrt(head.shape[1] // 3),
        "highpass": 0 if side is None else int(side),
        "reduce": 1 if factor is None else int(factor),
    }


def _resnet(weights: Mapping[str, Tensor]) -> dict[str, object] | None:
    head = weights.get("model.1.weight")
    found = [_BLOCK.fullmatch(key) for key in weights]
    blocks = sorted({int(match[1]) for match in found if match})
    if head is None or not blocks or head.ndim != 4 or head.shape[1] != 3:
        return None
    convs = {
        int(match[2])
        for match in found
        if match and weights[match[0]].ndim == 4 and int(match[1]) == blocks[0]
    }
    return {
        "channels": head.shape[0],
        "blocks": len(blocks),
        # The head takes four places, and each halving three.
        "downs": (blocks[0] - 4) // 3,
        "norm": _norm(weights, blocks[0]),
        "upsample": "resize" if f"model.{blocks[-1] + 1}.2.weight" in weights else "deconv",
        "dropout": 6 in convs,
        "residual": "residual_scale" in weights,
    }


def _norm(weights: Mapping[str, Tensor], block: int) -> str:
    if f"model.{block}.conv_block.2.weight" in weights:
        return "batch"
    return "instance" if f"model.{block}.conv_block.1.bias" in weights else "none"
