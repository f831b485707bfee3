"""Norms, resizing layers, initial weights and checks of options that every network shares."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.checkpoint import checkpoint

from cyclegan.config.checks import check_choice


class InstanceNorm(nn.InstanceNorm2d):
    """torch's instance norm without weights or statistics, as the group norm of single channels:
    one kernel of its own, on whose result a ReLU in place is one more. In channels last, torch's
    own gives a single image a wrong gradient (2.15, on a CPU).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-2] * features.shape[-1] == 1:
            raise ValueError(f"nothing is left to norm in features of {tuple(features.shape)}")
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
    """A constructor from a channel count; raises ValueError for an unknown kind."""
    return NORMS[check_choice("norm", kind, NORMS)]


def conv_bias(norm: str) -> bool:
    """Whether a convolution before this norm carries a bias.

    The classic implementation gives one only before instance norm, and its weight files hold
    exactly those biases.
    """
    return norm == "instance"


def initialize(network: nn.Module, *, init_type: str = "normal", gain: float = 0.02) -> None:
    """Fresh weights from torch's global generator: convolutions and linear layers by `init_type`,
    biases 0, batch norm scales N(1, gain) (Radford et al., 2016).

    What is fixed (requires_grad off) keeps its values. A network with a `correction` layer starts
    as the identity: that layer's weights are 0. A pixel-shuffle starts without a checkerboard.
    """
    draw = INITS[init_type]
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            _first_values(module, lambda weight: draw(weight, gain))
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            _first_values(module, lambda weight: nn.init.normal_(weight, 1.0, gain))
    # A layer comes before its convolution in modules(): this needs a round of its own.
    for module in network.modules():
        if isinstance(module, PixelShuffleConv):
            module.share_weights()
    correction = getattr(network, "correction", None)
    if isinstance(correction, nn.Conv2d):
        nn.init.zeros_(correction.weight)


def _first_values(module: nn.Module, draw: Callable[[Tensor], object]) -> None:
    weight, bias = _stored_weight(module), module.bias
    if weight.requires_grad:
        draw(weight)
    if isinstance(bias, nn.Parameter) and bias.requires_grad:
        nn.init.zeros_(bias)


def _stored_weight(module: nn.Module) -> Tensor:
    """The weight as it is stored: under spectral norm, `module.weight` is made of it each time."""
    if is_parametrized(module, "weight"):
        return module.parametrizations.weight.original  # type: ignore[union-attr, return-value]
    return module.weight  # type: ignore[return-value]


# What is left of a photograph in [-1, 1] without its local mean has a deviation of about 1 / 8.
DETAIL_GAIN = 8.0


def detail(image: Tensor, size: int) -> Tensor:
    """The image less its mean over `size` x `size` pixels round each (fewer at the border), brought
    to a deviation of about 1; with size 0, the image itself.
    """
    if size == 0:
        return image
    mean = functional.avg_pool2d(image, size, 1, size // 2, count_include_pad=False)
    return DETAIL_GAIN * (image - mean)


def check_highpass(size: int) -> int:
    whole = isinstance(size, int) and not isinstance(size, bool)
    if not whole or size < 0 or (size and size % 2 != 1):
        raise ValueError(f"highpass={size} must be an odd number, or 0")
    return size


class Block(nn.Module):
    """x + branch(x), all of one shape. With `recompute`, what is inside the branch is not kept for
    the way back but computed once more there: less memory, a third more time (Chen et al., 2016).
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
    """Enlargement by 2 without checkerboards: nearest neighbour, then a 3x3 convolution
    (Odena et al., 2016).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(in_channels, out_channels, 3, bias=bias),
        )


class PixelShuffleConv(nn.Sequential):
    """Enlargement by 2: a 3x3 convolution to four times the channels, folded out into pixels
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

    @torch.no_grad()
    def share_weights(self) -> None:
        """The weights of each output channel's first pixel for its other three as well."""
        conv = self[1]
        assert isinstance(conv, nn.Conv2d)
        for values in (conv.weight, conv.bias):
            if values is not None:
                values.copy_(values[::4].repeat_interleave(4, dim=0))


class BlurPool(nn.Module):
    """Halving without aliases (Zhang, 2019): the mean weighted by [1, 2, 1] along both sides, at
    every second pixel, with reflected borders.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = [1 / 16, 2 / 16, 1 / 16]
        kernel = torch.tensor([row, [2 * weight for weight in row], row])
        # Not persistent: a weight file holds what was learned.
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        kernel = self.kernel.expand(channels, 1, 3, 3)
        padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, kernel, stride=2, groups=channels)


# Enlargements by 2 that start without a checkerboard, beside each network's own deconv.
ENLARGEMENTS: dict[str, Callable[..., nn.Module]] = {
    "resize": ResizeConv,
    "pixelshuffle": PixelShuffleConv,
}
