"""Bicubic resizing: the fixed generator, and the starting point of super-resolution networks."""

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count, check_flag
from cyclegan.data.files.images import to_image, to_tensor


class Bicubic(nn.Module):
    """Enlarges by `scale` or reduces by `shrink`, without parameters; the identity at 1.

    N3HW to N3(H scale / shrink)(W scale / shrink), height and width multiples of `shrink`. The
    kernel overshoots at edges, and the output is not clamped to [-1, 1]: it stays linear, and every
    pixel has a gradient. Whoever writes a file clips.

    Args:
        scale: how many times larger the output is.
        shrink: how many times smaller it is, antialiased.
        round: rounds the output to the 256 values of an 8-bit file, within [-1, 1], so that the
            partner trains on the images it will be given. Rounding has the identity's gradient.
    """

    def __init__(self, *, scale: int = 1, shrink: int = 1, round: bool = False) -> None:
        super().__init__()
        self.scale, self.shrink = register_resizing(self, scale=scale, shrink=shrink)
        self.size_multiple = self.shrink
        self.round = check_flag("round", round)

    def forward(self, image: Tensor) -> Tensor:
        resized = resize(image, scale=self.scale, shrink=self.shrink)
        if not self.round:
            return resized
        rounded = ((resized.detach() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
        return resized + (rounded - resized.detach())


def resize(image: Tensor, *, scale: int = 1, shrink: int = 1) -> Tensor:
    """NCHW to NC(H scale / shrink)(W scale / shrink) by Keys' kernel with a = -0.5, like Pillow.

    Computed in float32 or float64, also under autocast, and returned in the image's own dtype.
    """
    if scale == shrink:
        return image
    size = [side * scale // shrink for side in image.shape[-2:]]
    with torch.autocast(image.device.type, enabled=False):
        wide = image.to(torch.promote_types(image.dtype, torch.float32))
        # Without antialias, torch's kernel has a = -0.75, unlike that of published figures.
        resized = functional.interpolate(wide, size, mode="bicubic", antialias=True)
    return resized.to(image.dtype)


def crop_to_multiple(image: Image.Image, scale: int) -> Image.Image:
    """The upper left part whose sides are multiples of the scale; raises ValueError at none."""
    width, height = (side // scale * scale for side in image.size)
    if not width or not height:
        raise ValueError(f"{image.width}x{image.height} px cannot be made {scale} times smaller")
    return image.crop((0, 0, width, height))


def downscale(image: Image.Image, scale: int) -> Image.Image:
    """By antialiased bicubic interpolation, to 8 bits; the sides are multiples of the scale."""
    return to_image(resize(to_tensor(image)[None], shrink=scale)[0])


def upscale(image: Image.Image, scale: int) -> Image.Image:
    """By bicubic interpolation, to 8 bits: the baseline of every super-resolution."""
    return to_image(resize(to_tensor(image)[None], scale=scale)[0])


def register_resizing(network: nn.Module, *, scale: int, shrink: int = 1) -> tuple[int, int]:
    """Checks both and returns them. Those above 1 become buffers of the network, so that a weight
    file alone tells them. Raises ValueError.
    """
    for name, value in (("scale", scale), ("shrink", shrink)):
        check_count(name, value, least=1)
        if value > 1:
            network.register_buffer(f"{name}_factor", torch.tensor(value))
    if scale > 1 and shrink > 1:
        raise ValueError(f"scale={scale} and shrink={shrink} undo each other: give one of them")
    return scale, shrink
