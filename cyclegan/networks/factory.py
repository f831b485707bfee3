"""Builds networks, not yet initialized, from the terms that name them."""

from typing import Any

from torch import nn

from cyclegan.config import parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.networks import DISCRIMINATORS, GENERATORS

GENERATOR_NAMES = ("G_AB", "G_BA")


def build_generator(term: Term, *, channels: int, scale: int = 1, shrink: int = 1) -> nn.Module:
    """A generator whose output is `scale` times larger, or `shrink` times smaller, than its input.
    Raises UserError if the named network cannot resize images in this way.
    """
    network = _build(term, GENERATORS, channels=channels, scale=scale, shrink=shrink)
    if (getattr(network, "scale", 1), getattr(network, "shrink", 1)) == (scale, shrink):
        return network
    problem = "changes the size of images: say so by --scale"
    if scale > 1:
        problem = (
            f"does not enlarge images, as --scale {scale} asks of G_AB: use edsr, rrdb, srcnn, "
            "vgg7 or dcscn"
        )
    elif shrink > 1:
        problem = (
            f"does not reduce images, as --scale {shrink} asks of G_BA: add --generator_BA edsr, "
            "or the fixed --generator_BA bicubic"
        )
    raise UserError(f"--{term.option}: {term.name} {problem}")


def build_discriminator(term: Term, *, channels: int) -> nn.Module:
    return _build(term, DISCRIMINATORS, channels=channels)


def _build(term: Term, table: parts.Table, **defaults: Any) -> nn.Module:
    network = parts.build(term, table, **defaults)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"--{term.option}: {term.name} is no network: it must make a torch.nn.Module"
        )
    return network
