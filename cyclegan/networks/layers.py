"""Norms and initial weights that every network shares."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": nn.InstanceNorm2d,
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
    if kind not in NORMS:
        raise ValueError(f"norm={kind} is unknown; known: {', '.join(NORMS)}")
    return NORMS[kind]


def conv_bias(norm: str) -> bool:
    """Whether a convolution before this norm carries a bias.

    The classic implementation gives one only before instance norm, and its weight files hold
    exactly those biases.
    """
    return norm == "instance"


def initialize(network: nn.Module, *, init_type: str = "normal", gain: float = 0.02) -> None:
    """Fresh weights from torch's global generator: convolutions and linear layers by `init_type`,
    biases 0, batch norm scales N(1, gain) (Radford et al., 2016).

    A network with a `correction` layer starts as the identity: that layer's weights are 0.
    """
    draw = INITS[init_type]
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            draw(_stored_weight(module), gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, gain)
            nn.init.zeros_(module.bias)
    correction = getattr(network, "correction", None)
    if isinstance(correction, nn.Conv2d):
        nn.init.zeros_(correction.weight)


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
    if size < 0 or (size and size % 2 != 1):
        raise ValueError(f"highpass={size} must be an odd number, or 0")
    return size


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
