"""The networks that a run's settings name, not yet initialized."""

from torch import nn

from cyclegan.config import expressions
from cyclegan.config.errors import UserError
from cyclegan.config.options import TrainSettings
from cyclegan.networks import DISCRIMINATORS, GENERATORS

GENERATOR_NAMES = ("G_AB", "G_BA")


def build_generator(settings: TrainSettings, name: str, *, trusted: bool = True) -> nn.Module:
    """G_AB or G_BA; with --scale the first enlarges and the second reduces. Raises UserError where
    the network named cannot.
    """
    assert name in GENERATOR_NAMES
    slot = settings.generator_option(name)
    term = expressions.parse_one(settings.generator_of(name), slot=slot)
    scale, shrink = (settings.scale, 1) if name == "G_AB" else (1, settings.scale)
    network: nn.Module = expressions.build(
        term,
        GENERATORS,
        slot=slot,
        trusted=trusted,
        channels=settings.ngf,
        scale=scale,
        shrink=shrink,
    )
    _check_module(network, slot, term.name)
    if (getattr(network, "scale", 1), getattr(network, "shrink", 1)) != (scale, shrink):
        raise UserError(_wrong_size(settings, name, slot, term.name))
    return network


def build_discriminator(settings: TrainSettings, *, trusted: bool = True) -> nn.Module:
    slot = "discriminator"
    term = expressions.parse_one(settings.discriminator, slot=slot)
    network: nn.Module = expressions.build(
        term, DISCRIMINATORS, slot=slot, trusted=trusted, channels=settings.ndf
    )
    _check_module(network, slot, term.name)
    return network


def _check_module(network: object, slot: str, name: str) -> None:
    if not isinstance(network, nn.Module):
        raise UserError(f"--{slot}: {name} is no network: it must make a torch.nn.Module")


def _wrong_size(settings: TrainSettings, name: str, slot: str, network: str) -> str:
    if settings.scale == 1:
        return f"--{slot}: {network} changes the size of images: say so by --scale"
    if name == "G_AB":
        return (
            f"--{slot}: {network} does not enlarge images, as --scale {settings.scale} asks of "
            "G_AB: use edsr, rrdb, srcnn, vgg7 or dcscn"
        )
    return (
        f"--{slot}: {network} does not reduce images, as --scale {settings.scale} asks of G_BA: "
        "add --generator_BA edsr, or the fixed --generator_BA bicubic"
    )
