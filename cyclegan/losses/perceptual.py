"""Losses on what networks trained to name things see in images."""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import (
    AlexNet_Weights,
    SqueezeNet1_1_Weights,
    VGG16_Weights,
    VGG19_Weights,
)

from cyclegan.config.checks import check_choice
from cyclegan.data.files.safe_load import load_tensors

# The means and deviations of ImageNet's colours, which are given for [0, 1], in [-1, 1].
IMAGENET_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
IMAGENET_STD = [2 * std for std in (0.229, 0.224, 0.225)]

# Convolutions in each of the five blocks; a block ends with a halving.
VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_WEIGHTS = {"vgg16": VGG16_Weights.DEFAULT, "vgg19": VGG19_Weights.DEFAULT}

LPIPS_WEIGHTS = {
    "alex": AlexNet_Weights.DEFAULT,
    "vgg": VGG16_Weights.DEFAULT,
    "squeeze": SqueezeNet1_1_Weights.DEFAULT,
}
LPIPS_MIN_SIZE = {"alex": 31, "vgg": 16, "squeeze": 17}

# What a missing, foreign or damaged file of weights, and a missing network, may raise.
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)


class VGG(nn.Module):
    """The distance of two images' features in VGG (Johnson et al., 2016; Simonyan and Zisserman,
    2015): the sum over layers of weight * E |difference|, or of its square.

    NCHW images in [-1, 1] of one shape; they may lie beyond the range. The target's features carry
    no gradient. Under autocast features are in half precision, their differences in float32.

    Args:
        layers: names such as relu3_3, or conv5_4 before its activation; commas between them, or a
            list. Deep ones keep what is shown, shallow ones texture.
        network: vgg16 or vgg19.
        weights: imagenet, for torchvision's, which are fetched once into torch's hub cache
            (0.5 GB); or a .pth file of a state dict, of the whole network or of its features.
        loss: l1 or l2.
        layer_weights: one number a layer, in the order of `layers`; 1 each when not given.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: str | Sequence[str] = "relu1_2,relu2_2,relu3_3,relu4_3",
        *,
        network: str = "vgg16",
        weights: str = "imagenet",
        loss: str = "l1",
        layer_weights: str | float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("network", network, VGG_BLOCKS)
        check_choice("loss", loss, ("l1", "l2"))
        places = _places(VGG_BLOCKS[network])
        names = _names(layers, network=network, known=places)
        numbers = _numbers(layer_weights, count=len(names))
        self.taps = {places[name]: number for name, number in zip(names, numbers, strict=True)}
        self.distance = functional.l1_loss if loss == "l1" else functional.mse_loss
        self.features = _features(VGG_BLOCKS[network], depth=max(self.taps) + 1)
        halvings = sum(isinstance(module, nn.MaxPool2d) for module in self.features)
        self.min_size = 2**halvings
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self._fill(network, weights)
        self.requires_grad_(False).eval()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        _check_size(input, self.min_size, part="vgg with these layers")
        with torch.no_grad():
            wanted = self.encode(target)
        distances = [
            number * self.distance(seen.float(), goal.float())
            for number, seen, goal in zip(
                self.taps.values(), self.encode(input), wanted, strict=True
            )
        ]
        return torch.stack(distances).sum()

    def encode(self, image: Tensor) -> list[Tensor]:
        """NCHW in [-1, 1] to the features of each layer, in the order of `layers`."""
        features = (image.float() - self.mean) / self.std
        seen = {}
        for index, module in enumerate(self.features):
            features = module(features)
            if index in self.taps:
                seen[index] = features
        return [seen[index] for index in self.taps]

    def _fill(self, network: str, weights: str) -> None:
        state = _imagenet(network) if weights == "imagenet" else _file(weights)
        # A whole network's keys are features.0.weight ..., those of its features alone 0.weight ...
        state = {key.removeprefix("features."): value for key, value in state.items()}
        wanted = self.features.state_dict()
        for key, value in wanted.items():
            found = state.get(key)
            if not isinstance(found, Tensor) or found.shape != value.shape:
                shape = tuple(value.shape)
                raise ValueError(
                    f"weights={weights} are not torchvision's {network}: no {key} of shape {shape}"
                )
        self.features.load_state_dict({key: state[key] for key in wanted})


class LPIPS(nn.Module):
    """Learned perceptual similarity (Zhang et al., 2018), by torchmetrics, averaged over images;
    0 is identical.

    NCHW images in [-1, 1] of one shape; they may lie beyond the range, and are not clipped, so
    that gradients lead back into it. It is computed in float32 even under autocast.

    Args:
        net: alex, the nearest to people's judgement; vgg, the authors' choice for training;
            squeeze, the smallest. Its ImageNet weights (233, 528, 5 MB) come from torchvision and
            stay in torch's hub cache; the weights of the similarity come with torchmetrics.
    """

    def __init__(self, *, net: str = "alex") -> None:
        super().__init__()
        check_choice("net", net, LPIPS_WEIGHTS)
        try:
            # The metric would gather scores without end; its network alone is a plain function,
            # and one that never leaves evaluation mode: it has dropout.
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=net).net  # type: ignore[arg-type]
        except UNREADABLE as error:
            raise ValueError(_unavailable(LPIPS_WEIGHTS[net], error)) from None
        self.min_size = LPIPS_MIN_SIZE[net]
        self.requires_grad_(False).eval()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        _check_size(input, self.min_size, part="lpips with this network")
        # Half precision would leave few digits of the distances between normalised features.
        with torch.autocast(input.device.type, enabled=False):
            scores: Tensor = self.net(input.float(), target.detach().float())
        return scores.mean()


def _places(blocks: Sequence[int]) -> dict[str, int]:
    """The index of every named layer within torchvision's `features`."""
    places = {}
    index = 0
    for block, count in enumerate(blocks, 1):
        for convolution in range(1, count + 1):
            places[f"conv{block}_{convolution}"] = index
            places[f"relu{block}_{convolution}"] = index + 1
            index += 2
        # The halving.
        index += 1
    return places


def _features(blocks: Sequence[int], *, depth: int) -> nn.Sequential:
    """The first `depth` modules of torchvision's `features`, under the same indices.

    torchvision's own activations work in place, which would spoil features taken before them.
    """
    modules: list[nn.Module] = []
    width = 3
    for count, wider in zip(blocks, VGG_WIDTHS, strict=True):
        for _ in range(count):
            if len(modules) < depth:
                modules += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
            width = wider
        modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules[:depth])


def _names(layers: Any, *, network: str, known: Mapping[str, int]) -> list[str]:
    names = [name.strip() for name in layers.split(",")] if isinstance(layers, str) else layers
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(f"layers={layers} must be names of layers, with commas between them")
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"layers: {network} has no {name}; known: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"layers={layers} names a layer twice: give it one weight")
    return list(names)


def _numbers(layer_weights: Any, *, count: int) -> list[float]:
    if layer_weights is None:
        return [1.0] * count
    numbers = layer_weights
    if isinstance(numbers, str):
        numbers = numbers.split(",")
    elif not isinstance(numbers, list | tuple):
        numbers = [numbers]
    try:
        values = [math.nan if isinstance(number, bool) else float(number) for number in numbers]
    except (TypeError, ValueError, OverflowError):
        values = []
    if len(values) != count or not all(0 < value < math.inf for value in values):
        raise ValueError(
            f"layer_weights={layer_weights} must be numbers above 0, one a layer: {count} in all"
        )
    return values


def _imagenet(network: str) -> Mapping[str, Tensor]:
    try:
        state: Mapping[str, Tensor] = VGG_WEIGHTS[network].get_state_dict(
            check_hash=True, map_location="cpu", weights_only=True
        )
    except UNREADABLE as error:
        instead = "or name a file of such weights with weights=FILE"
        raise ValueError(f"{_unavailable(VGG_WEIGHTS[network], error)}, {instead}") from None
    return state


def _file(weights: Any) -> Mapping[str, Tensor]:
    if not isinstance(weights, str) or not weights:
        raise ValueError(f"weights={weights} must be imagenet or the path of a .pth file")
    try:
        state = load_tensors(Path(weights).expanduser())
    except UNREADABLE as error:
        raise ValueError(f"weights={weights} cannot be read: {_reason(error)}") from None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"weights={weights} holds no state dict")
    return state


def _unavailable(weights: Any, error: BaseException) -> str:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / weights.url.rpartition("/")[2]
    return (
        f"its ImageNet weights could be neither read from {file} nor downloaded "
        f"({_reason(error)}): put {weights.url} there"
    )


def _reason(error: BaseException) -> str:
    # torch's own words go on for paragraphs, and advise to load the file unsafely.
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more, or other, than tensors"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


def _check_size(image: Tensor, min_size: int, *, part: str) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < min_size:
        raise ValueError(f"{part} needs images of {min_size} px or more, not {width}x{height}")
