"""What architecture a weight file belongs to, told from its keys and shapes alone."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from cyclegan.config.errors import UserError

Weights = Mapping[str, Tensor]
Options = dict[str, object]

_EDSR_BLOCK = re.compile(r"body\.\d+\.convs\.0\.weight")
_RRDB_LAST = re.compile(r"body\.(\d+)\.weight")
_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.(\d+)\.weight")
_CHAIN = re.compile(r"layers\.\d+\.weight")
_GAIN = re.compile(r"model\.(\d+)\.gain")


def generator_expression(weights: Weights, *, source: Path) -> str:
    """The --generator expression of a state dict, ours or the classic implementation's.

    Raises UserError for any other network.
    """
    readers = {
        "attention": _attention,
        "resnet": _resnet,
        "unet": _unet,
        "rrdb": _rrdb,
        "edsr": _edsr,
        "vgg7": _vgg7,
        "srcnn": _srcnn,
    }
    for name, read in readers.items():
        options = _read(read, weights)
        if options is not None:
            return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
    raise UserError(
        f"{source} holds no generator that can be told from its keys ({', '.join(readers)} can): "
        "translate with --name of its run instead"
    )


def _read(read: Callable[[Weights], Options | None], weights: Weights) -> Options | None:
    """The options, or None too where somebody's numbers or shapes make no sense."""
    try:
        options = read(weights)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, OverflowError, IndexError):
        return None
    # No block is without a weight.
    blocks = (options or {}).get("blocks", 0)
    return None if isinstance(blocks, int) and blocks > len(weights) else options


def _rrdb(weights: Weights) -> Options | None:
    options = _restoring(weights)
    # Behind the blocks stands a convolution, whose number is theirs.
    blocks = [int(match[1]) for match in map(_RRDB_LAST.fullmatch, weights) if match]
    if options is None or not blocks:
        return None
    first = weights.get("body.0.dense.0.convs.0.weight")
    growth = {} if first is None else {"growth": first.shape[0]}
    return {**options, "blocks": blocks[0], **growth}


def _edsr(weights: Weights) -> Options | None:
    options = _restoring(weights)
    blocks = sum(bool(_EDSR_BLOCK.fullmatch(key)) for key in weights)
    return options and {**options, "blocks": blocks}


def _restoring(weights: Weights) -> Options | None:
    """What edsr and rrdb have in common; a buffer that is not there is an option not used."""
    head = weights.get("head.weight")
    if head is None or head.ndim != 4 or "fine.weight" not in weights:
        return None
    side = weights.get("highpass_side")
    names = ("reduce", "scale", "shrink")
    factors = {name: int(weights.get(f"{name}_factor", 1)) for name in names}
    folded = math.isqrt(head.shape[1] // 3)
    return {
        "channels": head.shape[0],
        "fold": folded // factors["shrink"],
        "noise": head.shape[1] - 3 * folded**2,
        "highpass": 0 if side is None else int(side),
        **factors,
    }


def _vgg7(weights: Weights) -> Options | None:
    options = _srcnn(weights) if "leak" in weights else None
    return options and {name: value for name, value in options.items() if name != "spec"}


def _srcnn(weights: Weights) -> Options | None:
    shapes = [weight.shape for key, weight in weights.items() if _CHAIN.fullmatch(key)]
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return None
    layers = "_".join(f"{width}x{height}x{side}" for width, _, height, side in shapes)
    return {
        # Quoted, as the expression is Python.
        "spec": repr(layers),
        "color": "y" if shapes[0][1] == 1 else "rgb",
        "residual": "residual_scale" in weights,
        "scale": int(weights.get("scale_factor", 1)),
    }


def _attention(weights: Weights) -> Options | None:
    gains = [key for key in weights if _GAIN.fullmatch(key)]
    options = _resnet(weights) if gains else None
    return options and {
        **options,
        "heads": weights[gains[0]].shape[0],
        "attentions": len(gains),
    }


def _resnet(weights: Weights) -> Options | None:
    found = [match for match in map(_BLOCK.fullmatch, weights) if match]
    blocks = sorted({int(match[1]) for match in found})
    width = _width(weights, "model.1.weight")
    if width is None or not blocks:
        return None
    # Told by four dimensions: a batch norm may stand in the place that a dropout moves one to.
    convs = {int(match[2]) for match in found if weights[match[0]].ndim == 4}
    downs, antialias = _halvings(weights, width, blocks[0])
    # An attention may stand behind the last block.
    gains = [int(match[1]) for match in map(_GAIN.fullmatch, weights) if match]
    return {
        "channels": width,
        "blocks": len(blocks),
        "downs": downs,
        "norm": _norm(weights, blocks[0]),
        "upsample": _upsample(weights, f"model.{max(blocks + gains) + 1}"),
        "dropout": 6 in convs,
        "residual": "residual_scale" in weights,
        "antialias": antialias,
    }


def _halvings(weights: Weights, width: int, first_block: int) -> tuple[int, bool]:
    """Their number and whether they are antialiased. The head takes four places, and each halving
    three, or four with a blur.
    """
    places = first_block - 4
    inner = weights.get(f"model.{first_block}.conv_block.1.weight")
    doubled = width * 2 ** (places // 4)
    antialias = places % 4 == 0 and inner is not None and inner.shape[:1] == (doubled,)
    return (places // 4, places > 0) if antialias else (places // 3, False)


def _norm(weights: Weights, block: int) -> str:
    if f"model.{block}.conv_block.2.weight" in weights:
        return "batch"
    return "instance" if f"model.{block}.conv_block.1.bias" in weights else "none"


def _unet(weights: Weights) -> Options | None:
    width = _width(weights, "model.model.0.weight")
    if width is None:
        return None
    inner, layers = "model.model.1.model", 1
    while f"{inner}.1.weight" in weights:
        inner, layers = f"{inner}.3.model", layers + 1
    has_bias = "model.model.0.bias" in weights
    has_norm = any(key.endswith("running_mean") for key in weights)
    return {
        "channels": width,
        "layers": layers,
        "norm": "instance" if has_bias else "batch" if has_norm else "none",
        "upsample": _upsample(weights, f"model.model.{3 if layers > 1 else 2}"),
    }


def _upsample(weights: Weights, key: str) -> str:
    """By the place of the convolution within the layer: a deconv is itself one."""
    places = {"resize": 2, "pixelshuffle": 1}
    found = [name for name, place in places.items() if f"{key}.{place}.weight" in weights]
    return found[0] if found else "deconv"


def _width(weights: Weights, head: str) -> int | None:
    """The filters of a first convolution on three colours; None if it is no such thing."""
    weight = weights.get(head)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3:
        return None
    return weight.shape[0]
