"""Norms, upsampling layers, first weights and checks of options that the networks share."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.checkpoint import checkpoint

from cyclegan.config.checks import check_choice, check_count


class InstanceNorm(nn.InstanceNorm2d):
    """torch's instance norm without weights or statistics, as a group norm with one group for each
    channel: one kernel, whose result an in-place ReLU may overwrite. In channels last, torch's own
    gives a single image a wrong gradient (2.15, on a CPU).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-2] * features.shape[-1] == 1:
            raise ValueError(
                f"instance norm of a single value per channel, {tuple(features.shape)}"
            )
        return functional.group_norm(features, self.num_features, eps=self.eps)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": InstanceNorm,
    "batch": nn.BatchNorm2d,
    "none": lambda _: nn.Identity(),
}

INITS: dict[str, Callable[[Tensor, float], object]] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, _: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}


def norm_layer(kind: str) -> Callable[[int], nn.Module]:
    """A constructor from a number of channels; raises ValueError for an unknown kind."""
    return NORMS[check_choice("norm", kind, NORMS)]


def conv_bias(norm: str) -> bool:
    """Whether a convolution before this norm has a bias: as in the classic implementation, whose
    weight files hold biases before instance norm only.
    """
    return norm == "instance"


def initialize(network: nn.Module, *, init_type: str = "normal", gain: float = 0.02) -> None:
    """Draws first weights from torch's global generator: convolutions and linear layers by
    `init_type`, biases 0, batch norm scales N(1, gain) (Radford et al., 2016).

    Parameters without requires_grad keep their values. A network with a `correction` layer starts
    as the identity: the weights of that layer are 0. Pixel-shuffles start without a checkerboard.
    """
    init = INITS[init_type]
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            _initialize_layer(module, lambda weight: init(weight, gain))
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            _initialize_layer(module, lambda weight: nn.init.normal_(weight, 1.0, gain))
    # In a second round, as modules() gives a layer before the convolution inside it.
    for module in network.modules():
        if isinstance(module, PixelShuffleConv):
            for values in module[1].parameters():
                values.data.copy_(values.data[::4].repeat_interleave(4, dim=0))
    correction = getattr(network, "correction", None)
    if isinstance(correction, nn.Conv2d):
        nn.init.zeros_(correction.weight)


def _initialize_layer(module: nn.Module, init: Callable[[Tensor], object]) -> None:
    if is_parametrized(module, "weight"):
        # Under spectral norm each access to `module.weight` takes a power iteration.
        weight = module.parametrizations.weight.original  # type: ignore[union-attr]
    else:
        weight = module.weight
    bias = module.bias
    assert isinstance(weight, Tensor)
    if weight.requires_grad:
        init(weight)
    if isinstance(bias, nn.Parameter) and bias.requires_grad:
        nn.init.zeros_(bias)


# A photograph in [-1, 1] minus its local mean has a standard deviation of about 1 / 8.
HIGH_PASS_GAIN = 8.0


def high_pass(image: Tensor, size: int) -> Tensor:
    """The image minus its mean over `size` x `size` pixels (fewer at the border), scaled to a
    standard deviation of about 1; with size 0, the image itself.
    """
    if size == 0:
        return image
    mean = functional.avg_pool2d(image, size, 1, size // 2, count_include_pad=False)
    return HIGH_PASS_GAIN * (image - mean)


def check_highpass(size: int) -> int:
    if check_count("highpass", size, least=0) and size % 2 == 0:
        raise ValueError(f"highpass={size} must be an odd number, or 0")
    return size


class Encoder(nn.Module):
    """A generator whose features can be read layer by layer, as contrastive losses need them."""

    @property
    def encode_layers(self) -> tuple[int, ...]:
        """The layers that `encode` returns by default."""
        raise NotImplementedError

    def layer_outputs(self, image: Tensor) -> Iterator[Tensor]:
        """The outputs of the layers in their order, N x C x h x w each."""
        raise NotImplementedError

    def encode(self, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """The outputs of these layers; layers after the last of them are not computed. Raises
        ValueError for a layer that does not exist.
        """
        wanted = self.encode_layers if layers is None else layers
        for layer in wanted:
            check_count("layer", layer, least=0)
        last = max(wanted, default=-1)
        outputs = list(islice(self.layer_outputs(image), last + 1))
        if last >= len(outputs):
            raise ValueError(f"layer={last} must be at most {len(outputs) - 1}")
        return [outputs[layer] for layer in wanted]


class ResidualBlock(nn.Module):
    """x + branch(x), all of one shape. With `recompute`, the activations inside the branch are not
    stored but recomputed in the backward pass: less memory, a third more time (Chen et al., 2016).
    """

    recompute = False

    def branch(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            added: Tensor = checkpoint(self.branch, features, use_reentrant=False)
        else:
            added = self.branch(features)
        return features + added


class ResizeConv(nn.Sequential):
    """Upsampling by 2 without checkerboards: nearest neighbour, then a 3x3 convolution
    (Odena et al., 2016).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(in_channels, out_channels, 3, bias=bias),
        )


class PixelShuffleConv(nn.Sequential):
    """Upsampling by 2: a 3x3 convolution to four times the channels, rearranged into pixels
    (Shi et al., 2016).

    `initialize` gives the four convolutions of one output channel the same weights, so that it
    starts as a convolution and nearest neighbour, without a checkerboard (Aitken et al., 2017).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(
            nn.ReflectionPad2d(1),
            nn.Conv2d(in_channels, 4 * out_channels, 3, bias=bias),
            nn.PixelShuffle(2),
        )


class BlurPool(nn.Module):
    """Antialiased halving (Zhang, 2019): the mean weighted by [1, 2, 1] along both sides, at every
    second pixel, with reflected borders.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        # Not persistent: weight files hold learned values only.
        self.register_buffer("kernel", torch.outer(row, row), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        kernel = self.kernel.expand(channels, 1, 3, 3)
        padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, kernel, stride=2, groups=channels)


# Layers that upsample by 2 without a checkerboard in the first weights.
UPSAMPLERS: dict[str, Callable[..., nn.Module]] = {
    "resize": ResizeConv,
    "pixelshuffle": PixelShuffleConv,
}
