"""Perceptual losses: distances between features of networks trained on ImageNet."""

import pickle
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from cyclegan.config.checks import check_choice, check_number
from cyclegan.data.files.safe_load import UnreadableTensors, load_tensors

# Mean and standard deviation of ImageNet's colours, published for [0, 1], here for [-1, 1].
IMAGENET_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
IMAGENET_STD = [2 * std for std in (0.229, 0.224, 0.225)]

VGG_NETWORKS = {
    "vgg16": (models.vgg16, models.VGG16_Weights.DEFAULT),
    "vgg19": (models.vgg19, models.VGG19_Weights.DEFAULT),
}

# The ImageNet weights of each network, and the least side of an image in pixels.
LPIPS_NETWORKS = {
    "alex": (models.AlexNet_Weights.DEFAULT, 31),
    "vgg": (models.VGG16_Weights.DEFAULT, 16),
    "squeeze": (models.SqueezeNet1_1_Weights.DEFAULT, 17),
}

# What a damaged or foreign file of ImageNet weights, or a failed download, may raise.
LOAD_ERRORS = (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)


class VGG(nn.Module):
    """The distance of two images' features in VGG (Johnson et al., 2016; Simonyan and Zisserman,
    2015): the sum over layers of weight * E |difference|, or of its square.

    NCHW images in [-1, 1] of one shape; they may lie beyond the range. The target's features carry
    no gradient. Under autocast features are in half precision, their differences in float32.

    Args:
        layers: names such as relu3_3, or conv5_4 before its activation; commas between them, or a
            list. Deep layers compare content, shallow ones texture.
        network: vgg16 or vgg19.
        weights: imagenet, for torchvision's, which are downloaded once into torch's hub cache
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
        check_choice("network", network, VGG_NETWORKS)
        check_choice("loss", loss, ("l1", "l2"))
        self.distance = functional.l1_loss if loss == "l1" else functional.mse_loss
        # On the meta device, nothing is allocated for the layers that are not used.
        with torch.device("meta"):
            features = VGG_NETWORKS[network][0](weights=None).features
        indices = layer_indices(features)
        names = _names(layers, network=network, known=indices)
        numbers = _numbers(layer_weights, count=len(names))
        self.layer_weights = dict(zip(names, numbers, strict=True))
        # Each block after the first begins with half the resolution: relu3_3 is in block 3.
        self.min_size = 2 ** (max(int(name[4]) for name in names) - 1)
        used = features[: max(indices[name] for name in names) + 1].to_empty(device="cpu")
        used.load_state_dict(_weights(network, weights, wanted=used.state_dict()))
        nodes = {str(indices[name]): name for name in names}
        self.features = create_feature_extractor(used, nodes, suppress_diff_warning=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        _check_size(input, self.min_size, part="vgg with these layers")
        with torch.no_grad():
            wanted = self.encode(target)
        found = self.encode(input)
        distances = [
            weight * self.distance(found[name].float(), wanted[name].float())
            for name, weight in self.layer_weights.items()
        ]
        return torch.stack(distances).sum()

    def encode(self, image: Tensor) -> dict[str, Tensor]:
        """The features of each layer of NCHW images in [-1, 1], by name."""
        features: dict[str, Tensor] = self.features((image.float() - self.mean) / self.std)
        return features


class LPIPS(nn.Module):
    """Learned perceptual similarity (Zhang et al., 2018), by torchmetrics, averaged over images;
    0 is identical.

    NCHW images in [-1, 1] of one shape; they may lie beyond the range, and are not clipped, so
    that gradients lead back into it. It is computed in float32 even under autocast.

    Args:
        net: alex, the nearest to human judgement; vgg, the authors' choice for training; squeeze,
            the smallest. Its ImageNet weights (233, 528, 5 MB) come from torchvision and stay in
            torch's hub cache; the weights of the similarity come with torchmetrics.
    """

    def __init__(self, *, net: str = "alex") -> None:
        super().__init__()
        check_choice("net", net, LPIPS_NETWORKS)
        weights, self.min_size = LPIPS_NETWORKS[net]
        try:
            # The metric would accumulate scores without end. Its network alone is a plain function,
            # and always in evaluation mode, without dropout.
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=net).net  # type: ignore[arg-type]
        except LOAD_ERRORS as error:
            raise ValueError(_unavailable(weights, error)) from None
        self.requires_grad_(False).eval()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        _check_size(input, self.min_size, part="lpips with this network")
        # Half precision would leave few digits of the distances between normalized features.
        with torch.autocast(input.device.type, enabled=False):
            scores: Tensor = self.net(input.float(), target.detach().float())
        return scores.mean()


def layer_indices(features: nn.Sequential) -> dict[str, int]:
    """The index in torchvision's VGG features of every layer by its name: conv1_1, relu1_1, ...

    Makes the ReLUs work out of place: in place they would overwrite the features before them.
    """
    indices, block, convolution = {}, 1, 0
    for index, module in enumerate(features):
        if isinstance(module, nn.MaxPool2d):
            block, convolution = block + 1, 0
        elif isinstance(module, nn.ReLU):
            module.inplace = False
            indices[f"relu{block}_{convolution}"] = index
        else:
            convolution += 1
            indices[f"conv{block}_{convolution}"] = index
    return indices


def _names(layers: Any, *, network: str, known: Collection[str]) -> list[str]:
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
    numbers = layer_weights.split(",") if isinstance(layer_weights, str) else layer_weights
    if not isinstance(numbers, list | tuple):
        numbers = [1.0] * count if numbers is None else [numbers]
    try:
        values = [float(number) if isinstance(number, str) else number for number in numbers]
        values = [check_number("layer_weights", v, least=sys.float_info.min) for v in values]
    except ValueError:
        values = []
    if len(values) != count:
        raise ValueError(
            f"layer_weights={layer_weights} must be numbers above 0, one a layer: {count} in all"
        )
    return values


def _weights(network: str, weights: str, *, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of these names and shapes, from ImageNet's weights or from a file."""
    state = _imagenet(network) if weights == "imagenet" else _file(weights)
    # The keys of a whole network begin with "features.", those of its features alone do not.
    state = {key.removeprefix("features."): value for key, value in state.items()}
    for key, value in wanted.items():
        found = state.get(key)
        if not isinstance(found, Tensor) or found.shape != value.shape:
            shape = tuple(value.shape)
            raise ValueError(
                f"weights={weights} are not torchvision's {network}: no {key} of shape {shape}"
            )
    return {key: state[key] for key in wanted}


def _imagenet(network: str) -> Mapping[str, Tensor]:
    weights = VGG_NETWORKS[network][1]
    options = {"check_hash": True, "map_location": "cpu", "weights_only": True}
    try:
        return dict(weights.get_state_dict(**options))
    except LOAD_ERRORS as error:
        instead = "or name a file of such weights with weights=FILE"
        raise ValueError(f"{_unavailable(weights, error)}, {instead}") from None


def _file(weights: Any) -> Mapping[str, Tensor]:
    if not isinstance(weights, str) or not weights:
        raise ValueError(f"weights={weights} must be imagenet or the path of a .pth file")
    try:
        state = load_tensors(Path(weights).expanduser())
    except (OSError, UnreadableTensors) as error:
        raise ValueError(f"weights={weights} cannot be read: {error}") from None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"weights={weights} holds no state dict")
    return state


def _unavailable(weights: Any, error: Exception) -> str:
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    # torch's own message is several paragraphs long, and advises to load the file unsafely.
    if isinstance(error, pickle.UnpicklingError):
        reason = "it holds more, or other, than tensors"
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"its ImageNet weights could be neither read from {file} nor downloaded ({reason}): "
        f"put {weights.url} there"
    )


def _check_size(image: Tensor, min_size: int, *, part: str) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < min_size:
        raise ValueError(f"{part} needs images of {min_size} px or more, not {width}x{height}")
