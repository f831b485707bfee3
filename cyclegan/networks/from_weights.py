"""The architecture of a weight file, detected from its keys and shapes alone."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cyclegan.config.errors import UserError

Weights = Mapping[str, Tensor]
Architecture = tuple[str, dict[str, Any]]


def detect_architecture(weights: Weights, *, source: Path) -> str:
    """The --generator expression of a state dict, ours or the classic implementation's.

    Raises UserError for any other network.
    """
    for read in (_resnet, _unet, _restoration, _chain):
        try:
            found = read(weights)
        # Numbers and shapes of a foreign file may make no sense.
        except (ValueError, TypeError, RuntimeError, ZeroDivisionError, OverflowError, IndexError):
            continue
        # Every block has a weight.
        if found is not None and found[1].get("blocks", 0) <= len(weights):
            return f"{found[0]}({', '.join(f'{key}={value}' for key, value in found[1].items())})"
    raise UserError(
        f"{source} holds no generator that can be told from its keys (attention, resnet, unet, "
        "rrdb, edsr, vgg7, srcnn can): translate with --name of its run instead"
    )


def _indices(pattern: str, weights: Weights) -> list[int]:
    """The numbers in the keys of this pattern."""
    return [int(match[1]) for match in (re.fullmatch(pattern, key) for key in weights) if match]


def _restoration(weights: Weights) -> Architecture | None:
    """Edsr or rrdb. A missing buffer is an option at its default."""
    head = weights.get("head.weight")
    if head is None or head.ndim != 4 or "fine.weight" not in weights:
        return None
    side = weights.get("highpass_side")
    names = ("reduce", "scale", "shrink")
    factors = {name: int(weights.get(f"{name}_factor", 1)) for name in names}
    folded = math.isqrt(head.shape[1] // 3)
    options = {
        "channels": head.shape[0],
        "fold": folded // factors["shrink"],
        "noise": head.shape[1] - 3 * folded**2,
        "highpass": 0 if side is None else int(side),
        **factors,
    }
    # The blocks of rrdb are followed by a convolution, whose index is their number.
    last = _indices(r"body\.(\d+)\.weight", weights)
    if not last:
        blocks = len(_indices(r"body\.(\d+)\.convs\.0\.weight", weights))
        return "edsr", {**options, "blocks": blocks}
    first = weights.get("body.0.dense.0.convs.0.weight")
    growth = {} if first is None else {"growth": first.shape[0]}
    return "rrdb", {**options, "blocks": last[0], **growth}


def _chain(weights: Weights) -> Architecture | None:
    """vgg7 or srcnn."""
    indices = _indices(r"layers\.(\d+)\.weight", weights)
    shapes = [weights[f"layers.{index}.weight"].shape for index in indices]
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return None
    options = {
        "color": "y" if shapes[0][1] == 1 else "rgb",
        "residual": "residual_scale" in weights,
        "scale": int(weights.get("scale_factor", 1)),
    }
    if "leak" in weights:
        return "vgg7", options
    spec = "_".join(f"{filters}x{height}x{width}" for filters, _, height, width in shapes)
    # Quoted, as the expression is Python.
    return "srcnn", {"spec": repr(spec), **options}


def _resnet(weights: Weights) -> Architecture | None:
    """Resnet or attention."""
    blocks = sorted(set(_indices(r"model\.(\d+)\.conv_block\.\d+\.weight", weights)))
    width = _width(weights, "model.1.weight")
    if width is None or not blocks:
        return None
    # With dropout, the second convolution moves to index 6, where a batch norm may be without it:
    # convolutions have four dimensions.
    sixth = weights.get(f"model.{blocks[0]}.conv_block.6.weight")
    downs, antialias = _halvings(weights, width, blocks[0])
    gains = _indices(r"model\.(\d+)\.gain", weights)
    options = {
        "channels": width,
        "blocks": len(blocks),
        "downs": downs,
        "norm": _norm(weights, blocks[0]),
        # An attention may follow the last block.
        "upsample": _upsample(weights, f"model.{max(blocks + gains) + 1}"),
        "dropout": sixth is not None and sixth.ndim == 4,
        "residual": "residual_scale" in weights,
        "antialias": antialias,
    }
    if not gains:
        return "resnet", options
    heads = weights[f"model.{gains[0]}.gain"].shape[0]
    return "attention", {**options, "heads": heads, "attentions": len(gains)}


def _halvings(weights: Weights, width: int, first_block: int) -> tuple[int, bool]:
    """Their number and whether they are antialiased. The head has four layers, and each halving
    three, or four with a blur.
    """
    layers = first_block - 4
    inner = weights.get(f"model.{first_block}.conv_block.1.weight")
    doubled = width * 2 ** (layers // 4)
    antialias = layers % 4 == 0 and inner is not None and inner.shape[:1] == (doubled,)
    return (layers // 4, layers > 0) if antialias else (layers // 3, False)


def _norm(weights: Weights, block: int) -> str:
    if f"model.{block}.conv_block.2.weight" in weights:
        return "batch"
    return "instance" if f"model.{block}.conv_block.1.bias" in weights else "none"


def _unet(weights: Weights) -> Architecture | None:
    width = _width(weights, "model.model.0.weight")
    if width is None:
        return None
    inner, layers = "model.model.1.model", 1
    while f"{inner}.1.weight" in weights:
        inner, layers = f"{inner}.3.model", layers + 1
    has_bias = "model.model.0.bias" in weights
    has_norm = any(key.endswith("running_mean") for key in weights)
    return "unet", {
        "channels": width,
        "layers": layers,
        "norm": "instance" if has_bias else "batch" if has_norm else "none",
        "upsample": _upsample(weights, f"model.model.{3 if layers > 1 else 2}"),
    }


def _upsample(weights: Weights, key: str) -> str:
    """Detected by the index of the convolution inside the layer; a deconv is one itself."""
    indices = {"resize": 2, "pixelshuffle": 1}
    found = [name for name, index in indices.items() if f"{key}.{index}.weight" in weights]
    return found[0] if found else "deconv"


def _width(weights: Weights, key: str) -> int | None:
    """The filters of a first convolution on three colours; None if it is no such convolution."""
    weight = weights.get(key)
    return None if weight is None or weight.shape[1:2] != (3,) or weight.ndim != 4 else len(weight)
