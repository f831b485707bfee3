"""The loss slots of a run: what each compares, which generators it trains, and what is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config import parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Expression
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses import (
    ADVERSARIAL_LOSSES,
    CONTRASTIVE_LOSSES,
    IMAGE_LOSSES,
    PENALTIES,
)
from cyclegan.losses.contrastive import PatchNCE
from cyclegan.losses.weighted import Slot
from cyclegan.networks import DIFFAUGMENTS
from cyclegan.networks.diffaugment import Augmented
from cyclegan.training.algorithm.model import CycleGAN

# In the order in which the generators' losses are added up.
TABLES: dict[str, parts.Table] = {
    "adversarial": ADVERSARIAL_LOSSES,
    "cycle": IMAGE_LOSSES,
    "content": IMAGE_LOSSES,
    "identity": IMAGE_LOSSES,
    "pseudo_pair": IMAGE_LOSSES,
    "nce": CONTRASTIVE_LOSSES,
    "penalty": PENALTIES,
}

# Slots that compare two images: the one that was made, and what it should be like.
PAIRS = {
    "cycle_A": ("rec_A", "real_A"),
    "cycle_B": ("rec_B", "real_B"),
    "content_A": ("fake_A", "real_B"),
    "content_B": ("fake_B", "real_A"),
    "identity_A": ("idt_A", "real_A"),
    "identity_B": ("idt_B", "real_B"),
    "pseudo_pair_A": ("pse_A", "real_A"),
    "pseudo_pair_B": ("pse_B", "real_B"),
}

# What each slot teaches; a reconstruction teaches the way there and the way back.
TRAINS: dict[str, set[str]] = {
    **{f"{slot}_A": {"G_BA"} for slot in TABLES},
    **{f"{slot}_B": {"G_AB"} for slot in TABLES},
    "cycle_A": {"G_AB", "G_BA"},
    "cycle_B": {"G_AB", "G_BA"},
    "penalty_A": set(),
    "penalty_B": set(),
}

Judge = Callable[..., Any]


def build_slots(settings: TrainSettings, model: CycleGAN) -> dict[str, Slot]:
    """Every slot of either domain, by name; raises UserError where they make no training."""
    device = next((parameter.device for parameter in model.parameters()), None)
    slots: dict[str, Slot] = {}
    for kind, table in TABLES.items():
        for domain in "AB":
            terms = settings.slot(kind, domain)
            # Both domains share what was said once: the heads of a contrast belong to encoders,
            # which serve in either direction.
            shared = slots.get(f"{kind}_A") if terms.option == kind == "nce" else None
            slots[f"{kind}_{domain}"] = shared or Slot(terms, table, device=device)
    for domain in "AB":
        _check_game(slots[f"adversarial_{domain}"], slots[f"penalty_{domain}"])
    _check_sizes(settings, slots)
    _check_learning(model.generators, slots)
    _prepare_contrast(model, slots)
    return slots


def judges(diffaugment: Expression, discriminators: Mapping[str, Judge]) -> dict[str, Judge]:
    """The discriminators as the losses see them: with --diffaugment, what they look at is
    augmented, real and fake alike.
    """
    augmentations = []
    for term in diffaugment:
        if term.weight != 1:
            raise UserError(
                f"--{term.option}: {term.name} takes no weight: leave {term.weight:g}* out"
            )
        augmentations.append(parts.build(term, DIFFAUGMENTS))
    if not augmentations:
        return dict(discriminators)
    if not discriminators:
        raise UserError("--diffaugment is for discriminators, and --adversarial none has none")
    return {name: Augmented(judge, augmentations) for name, judge in discriminators.items()}


def _check_game(adversarial: Slot, penalty: Slot) -> None:
    """Raises UserError where a discriminator would have nothing to learn by, or no hold."""
    for part in adversarial.losses:
        if not (hasattr(part.loss, "generator") and hasattr(part.loss, "discriminator")):
            raise UserError(
                f"--{adversarial.option} {part.label} is no game: it has no "
                "generator(D, fake, real) and discriminator(D, fake, real)"
            )
        if getattr(part.loss, "needs_penalty", False) and not penalty:
            raise UserError(
                f"--{adversarial.option} {part.label} diverges without a penalty: add "
                '--penalty "10*gradient_penalty"'
            )
    if penalty and not adversarial:
        raise UserError(
            f"--{penalty.option} has no discriminator to hold, as --{adversarial.option} is none: "
            f"give --{penalty.option} none"
        )


def _check_sizes(settings: TrainSettings, slots: dict[str, Slot]) -> None:
    if settings.scale == 1:
        return
    for name, slot in slots.items():
        if slot and name.startswith(("identity", "nce")):
            instead = " (--pseudo_pair_B takes its place)" if name[0] == "i" else ""
            raise UserError(
                f"--{slot.option} compares images of one size, which --scale {settings.scale} does "
                f"not make: give --{slot.option} none{instead}"
            )


def _check_learning(generators: nn.ModuleDict, slots: dict[str, Slot]) -> None:
    learners = {name for name, network in generators.items() if list(network.parameters())}
    if not learners:
        raise UserError("--generator and --generator_BA are both fixed: there is nothing to train")
    for name, slot in slots.items():
        if slot and TRAINS[name] and not TRAINS[name] & learners:
            fixed = "".join(TRAINS[name])
            raise UserError(
                f"--{slot.option} has nothing to train, as {fixed} is fixed: give --{name} none"
            )
    trained = {generator for name, slot in slots.items() if slot for generator in TRAINS[name]}
    for name in sorted(learners - trained):
        fixed = ", or --generator_BA bicubic, which is fixed" if name == "G_BA" else ""
        raise UserError(
            f"nothing trains {name}: give it a loss (--adversarial, --cycle, --pseudo_pair){fixed}"
        )


def _prepare_contrast(model: CycleGAN, slots: dict[str, Slot]) -> None:
    for domain in "AB":
        slot = slots[f"nce_{domain}"]
        for part in slot.losses:
            # A contrastive loss of the user's own may need no preparation.
            if isinstance(part.loss, PatchNCE):
                try:
                    part.loss.prepare(model.generators, domain)
                except ValueError as error:
                    raise UserError(f"--{slot.option}: {error}") from None


def heads(slots: Mapping[str, Slot]) -> nn.ModuleDict:
    """What losses learn by themselves: the heads of a contrastive one, which both domains may
    share.
    """
    modules = {
        module: f"{name}_{label}"
        for name, slot in slots.items()
        for label, module in slot.modules().items()
    }
    return nn.ModuleDict({name: module for module, name in modules.items()})


def equally_large(made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The pair as it is or, where --scale makes a translation larger or smaller than its source,
    with the larger image reduced to the size of the smaller by bicubic interpolation.
    """
    if made.shape == target.shape:
        return made, target
    size = min(made.shape[-2:], target.shape[-2:])
    return _reduced(made, size), _reduced(target, size)


def _reduced(image: Tensor, size: torch.Size) -> Tensor:
    if image.shape[-2:] == size:
        return image
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True)
