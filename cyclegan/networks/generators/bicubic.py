"""Bicubic resizing: the fixed generator, and where the super-resolution networks start."""

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count, check_flag
from cyclegan.data.files.images import to_image, to_tensor


class Bicubic(nn.Module):
    """Enlarges by `scale` or reduces by `shrink` with nothing to learn; the identity at 1.

    N3HW to N3(H scale / shrink)(W scale / shrink), height and width multiples of `shrink`. The
    kernel overshoots at edges, and the output is not clamped to [-1, 1]: it stays linear, and a
    gradient comes back from every pixel. Whoever writes a file clips.

    Args:
        scale: how many times larger the output is.
        shrink: how many times smaller it is, antialiased.
        round: the output has the 256 levels of a file, within [-1, 1], so that the partner trains
            on what it will be given. The gradient passes as if nothing had been rounded.
    """

    def __init__(self, *, scale: int = 1, shrink: int = 1, round: bool = False) -> None:
        super().__init__()
        self.scale, self.shrink = note_size(self, scale=scale, shrink=shrink)
        self.multiple = self.shrink
        self.round = check_flag("round", round)

    def forward(self, image: Tensor) -> Tensor:
        resized = resize(image, scale=self.scale, shrink=self.shrink)
        return _levels(resized) if self.round else resized


def resize(image: Tensor, *, scale: int = 1, shrink: int = 1) -> Tensor:
    """NCHW to NC(H scale / shrink)(W scale / shrink) by Keys' kernel with a = -0.5, as Pillow does.

    Computed in float32 at least, whatever autocast says, and given back in the image's own type.
    """
    if scale == shrink:
        return image
    size = [side * scale // shrink for side in image.shape[-2:]]
    with torch.autocast(image.device.type, enabled=False):
        wide = image.to(torch.promote_types(image.dtype, torch.float32))
        # Without antialias, torch's kernel has a = -0.75 and is not the one of published figures.
        resized = functional.interpolate(wide, size, mode="bicubic", antialias=True)
    return resized.to(image.dtype)


def cropped(image: Image.Image, scale: int) -> Image.Image:
    """The upper left part whose sides are multiples of the scale; raises ValueError at none."""
    width, height = (side // scale * scale for side in image.size)
    if not width or not height:
        raise ValueError(f"{image.width}x{image.height} px cannot be made {scale} times smaller")
    return image.crop((0, 0, width, height))


def reduced(image: Image.Image, scale: int) -> Image.Image:
    """By antialiased bicubic interpolation, to 8 bits; the sides are multiples of the scale."""
    return to_image(resize(to_tensor(image)[None], shrink=scale)[0])


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """By bicubic interpolation, to 8 bits: what every super-resolution is measured against."""
    return to_image(resize(to_tensor(image)[None], scale=scale)[0])


def note_size(network: nn.Module, *, scale: int, shrink: int) -> tuple[int, int]:
    """Gives both back once they are sound, and leaves those above 1 in the network's state dict:
    a weight file alone then tells them. Raises ValueError.
    """
    for name, value in (("scale", scale), ("shrink", shrink)):
        check_count(name, value, least=1)
        if value > 1:
            network.register_buffer(f"{name}_factor", torch.tensor(value))
    if scale > 1 and shrink > 1:
        raise ValueError(f"scale={scale} and shrink={shrink} undo each other: give one of them")
    return scale, shrink


def _levels(image: Tensor) -> Tensor:
    """The nearest of the 256 levels of a file, with the gradient of the identity."""
    levels = ((image.detach() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
    return image + (levels - image.detach())
