"""Tries parts of the user's own on random images before the run's folder is touched: a mistake in
a loss or a network then costs nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.errors import UserError, explain
from cyclegan.losses.weighted import WeightedLoss, is_builtin
from cyclegan.networks.diffaugment import AugmentedDiscriminator
from cyclegan.training.algorithm.loss_slots import OTHER_DOMAIN, SLOT_NAMES, LossSlot
from cyclegan.training.algorithm.objective import same_size
from cyclegan.training.state import preserve_state
from cyclegan.training.step import TrainingStep

Arguments = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class RandomImages:
    """Random square images of each domain; those of `made` carry a gradient."""

    sides: Mapping[str, int]
    count: int
    device: torch.device

    def real(self, domain: str) -> Tensor:
        side = self.sides[domain]
        return torch.rand(self.count, 3, side, side, device=self.device) * 2 - 1

    def made(self, domain: str) -> Tensor:
        return self.real(domain).requires_grad_() * 1.0


def check_custom_parts(
    step: TrainingStep, *, sides: Mapping[str, int], options: Mapping[str, str]
) -> None:
    """Raises UserError if a part that is not of this package fails, gives nothing to learn from,
    or changes its images. Weights, gradients and random states stay as they were.

    sides: of the crops, by domain. options: the command-line option of each generator.
    """
    model = step.model
    device = next(model.parameters()).device
    images = RandomImages(sides, min(step.images_per_step, 2), device)
    grad_enabled = torch.is_grad_enabled()
    with preserve_state([model, step.loss_modules], device):
        # In evaluation mode no statistics are gathered and no queue is filled.
        model.eval()
        try:
            _check_networks(step, images, options)
            for name, (slot, domain) in SLOT_NAMES.items():
                for part in step.objective.losses[name].losses:
                    if not is_builtin(part.loss):
                        for method, arguments in _calls(step, slot, domain, images):
                            _check_loss(part, method, arguments)
        finally:
            torch.set_grad_enabled(grad_enabled)
            model.zero_grad(set_to_none=True)
            step.loss_modules.zero_grad(set_to_none=True)


def _calls(
    step: TrainingStep, slot: LossSlot, domain: str, images: RandomImages
) -> Iterator[tuple[str, Arguments]]:
    """The methods of a loss that the step calls, and their arguments."""
    D = step.objective.D.get(f"D_{domain}")
    if slot.compares is not None:
        target = slot.images(domain)[1][-1]
        yield "__call__", lambda: same_size(images.made(domain), images.real(target))
    elif slot.kind == "nce":
        generators, source = step.model.generators, OTHER_DOMAIN[domain]
        yield (
            "__call__",
            lambda: (generators, domain, images.real(source), images.made(domain)),
        )
    elif slot.kind == "penalty":
        yield "__call__", lambda: (D, images.real(domain), images.real(domain))
    else:
        yield "generator", lambda: (D, images.made(domain), images.real(domain))
        yield "discriminator", lambda: (D, images.real(domain), images.real(domain))


def _check_loss(part: WeightedLoss, method: str, arguments: Arguments) -> None:
    # Twice: a loss that keeps a part of the first graph fails only at the second call.
    for _ in range(2):
        given = arguments()
        tensors = [each for each in given if isinstance(each, Tensor)]
        versions = [each._version for each in tensors]
        value = part.value(*given, method=method)
        problem = None
        if [each._version for each in tensors] != versions:
            problem = "changes its images in place, which other losses use: work on a copy"
        elif not value.isfinite():
            problem = (
                f"gives {value.item()} on random images: look for roots, logarithms, quotients"
            )
        else:
            try:
                torch.autograd.backward(value)
            except Exception as error:
                problem = f"cannot be differentiated: {explain(error)}"
        if problem:
            raise UserError(f"--{part.option}: {part.label} {problem}")


def _check_networks(step: TrainingStep, images: RandomImages, options: Mapping[str, str]) -> None:
    for name, network in step.model.generators.items():
        if not is_builtin(network):
            source, target = name[2], name[3]
            side = images.sides[target]
            made = _call(network, images.real(source), option=options[name])
            if not isinstance(made, Tensor) or made.shape != (images.count, 3, side, side):
                raise UserError(
                    f"--{options[name]}: {type(network).__name__} makes no images of {side}x{side} "
                    f"px of crops of {images.sides[source]} px"
                )
    for name, D in step.objective.D.items():
        discriminator = step.model.discriminators[name]
        if not is_builtin(discriminator):
            _call(discriminator, images.real(name[-1]), option="discriminator")
        for augment in D.augmentations if isinstance(D, AugmentedDiscriminator) else ():
            image = images.real(name[-1])
            augmented = _call(augment, image, option="diffaugment")
            if not isinstance(augmented, Tensor) or augmented.shape != image.shape:
                raise UserError(f"--diffaugment: {augment!r:.60} gives no images of the same size")


def _call(part: Any, image: Tensor, *, option: str) -> Any:
    try:
        return part(image)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if is_builtin(part):
            raise
        name = type(part).__name__ if isinstance(part, nn.Module) else f"{part!r:.60}"
        raise UserError(
            f"--{option}: {name} fails on images of {image.shape[-1]} px: {explain(error)}"
        ) from error
