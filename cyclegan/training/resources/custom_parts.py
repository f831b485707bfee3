"""Parts that are not of this package, tried on random images before a run's folder is touched.

A mistake in somebody's loss or network then costs nothing: no run was moved aside, no step taken.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.errors import UserError, explain
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses.weighted import Slot, WeightedLoss, is_ours
from cyclegan.networks.diffaugment import Augmented
from cyclegan.training.algorithm.loss_slots import PAIRS, equally_large
from cyclegan.training.step import Stepper

Arguments = Callable[[], tuple[Any, ...]]


def rehearse(stepper: Stepper, settings: TrainSettings) -> None:
    """Raises UserError where such a part fails, gives what nothing can be learned from, or changes
    the images it is given. Leaves weights, gradients and random numbers as they were.
    """
    device = next(stepper.model.parameters()).device
    with _undone(stepper, device):
        images = _Images(settings, device)
        _networks(stepper, settings, images)
        for name, slot in stepper.objective.slots.items():
            for part in slot.losses:
                if not is_ours(part.loss):
                    for method, arguments in _calls(stepper, name, images):
                        _rehearse(slot, part, method, arguments)


class _Images:
    """Random images of the size of the crops; those that were made carry a gradient."""

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        side = settings.crop_size if "crop" in settings.preprocess else settings.load_size
        self.sides = {domain: side // settings.smaller(domain) for domain in "AB"}
        self.count = min(settings.images_per_step, 2)
        self.device = device

    def real(self, domain: str) -> Tensor:
        side = self.sides[domain]
        return torch.rand(self.count, 3, side, side, device=self.device) * 2 - 1

    def made(self, domain: str) -> Tensor:
        return self.real(domain).requires_grad_() * 1.0


def _calls(stepper: Stepper, name: str, images: _Images) -> Iterator[tuple[str, Arguments]]:
    """How the step calls the losses of a slot."""
    domain = name[-1]
    judge = stepper.objective.judges.get(f"D_{domain}")
    other = "A" if domain == "B" else "B"
    if name in PAIRS:
        target = PAIRS[name][1][-1]
        yield "__call__", lambda: equally_large(images.made(domain), images.real(target))
    elif name.startswith("nce"):
        generators = stepper.model.generators
        yield (
            "__call__",
            lambda: (generators, domain, images.real(other), images.made(domain)),
        )
    elif name.startswith("penalty"):
        yield "__call__", lambda: (judge, images.real(domain), images.real(domain))
    else:
        yield "generator", lambda: (judge, images.made(domain), images.real(domain))
        yield "discriminator", lambda: (judge, images.real(domain), images.real(domain))


def _rehearse(slot: Slot, part: WeightedLoss, method: str, arguments: Arguments) -> None:
    # Twice: a loss that keeps a part of the first graph fails only then.
    for _ in range(2):
        given = arguments()
        tensors = [one for one in given if isinstance(one, Tensor)]
        versions = [one._version for one in tensors]
        value = slot.value(part, method, given)
        problem = None
        if [one._version for one in tensors] != versions:
            problem = "changes its images in place, which other losses look at: work on a copy"
        elif not value.isfinite():
            problem = (
                f"gives {value.item()} on random images: look for roots, logarithms, quotients"
            )
        else:
            try:
                torch.autograd.backward(value)
            except Exception as error:
                problem = f"has no gradient to go by: {explain(error)}"
        if problem:
            raise UserError(f"--{slot.option}: {part.label} {problem}")


def _networks(stepper: Stepper, settings: TrainSettings, images: _Images) -> None:
    for name, network in stepper.model.generators.items():
        if not is_ours(network):
            there, back = name[2], name[3]
            side = images.sides[back]
            made = _try(network, images.real(there), option=settings.generator_of(name).option)
            if not isinstance(made, Tensor) or made.shape != (images.count, 3, side, side):
                raise UserError(
                    f"--{settings.generator_of(name).option}: {type(network).__name__} makes no "
                    f"images of {side}x{side} px of crops of {images.sides[there]} px"
                )
    for name, judge in stepper.objective.judges.items():
        discriminator = stepper.model.discriminators[name]
        if not is_ours(discriminator):
            _try(discriminator, images.real(name[-1]), option="discriminator")
        for augment in judge.augmentations if isinstance(judge, Augmented) else ():
            image = images.real(name[-1])
            seen = _try(augment, image, option="diffaugment")
            if not isinstance(seen, Tensor) or seen.shape != image.shape:
                raise UserError(f"--diffaugment: {augment!r:.60} gives no images of the same size")


def _try(part: Any, image: Tensor, *, option: str) -> Any:
    try:
        return part(image)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if is_ours(part):
            raise
        name = type(part).__name__ if isinstance(part, nn.Module) else f"{part!r:.60}"
        raise UserError(
            f"--{option}: {name} fails on images of {image.shape[-1]} px: {explain(error)}"
        ) from error


@contextmanager
def _undone(stepper: Stepper, device: torch.device) -> Iterator[None]:
    """Whatever the parts do, the model begins to train as it was made."""
    model, grad = stepper.model, torch.is_grad_enabled()
    devices = [device] if device.type == "cuda" else []
    # In evaluation no statistics are gathered, and no queue is filled.
    model.eval()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_grad_enabled(grad)
        model.train()
        model.zero_grad(set_to_none=True)
        stepper.heads.zero_grad(set_to_none=True)
