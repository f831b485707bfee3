"""The loss slots: what each compares, and which generators it trains."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Expression
from cyclegan.config.parts import Table
from cyclegan.losses import ADVERSARIAL_LOSSES, CONTRASTIVE_LOSSES, IMAGE_LOSSES, PENALTIES
from cyclegan.losses.contrastive import PatchNCE
from cyclegan.losses.weighted import WeightedLosses
from cyclegan.training.algorithm.model import CycleGAN

# The generator that makes images of a domain, and the domain that it translates from.
GENERATOR_INTO = {"A": "G_BA", "B": "G_AB"}
OTHER_DOMAIN = {"A": "B", "B": "A"}

# What a slot trains: the generator into its domain, both generators, or none.
INTO, BOTH, NONE = "into", "both", "none"


@dataclass(frozen=True)
class LossSlot:
    """One kind of loss, which exists once for images of A and once for images of B.

    compares: the image that is made and its target, as ("rec", "real"); the target "source" is the
        real image that a translation was made from. None: the loss gets other arguments.
    trains: which generators the loss trains.
    same_size: the slot compares images of one size, so that --scale excludes it.
    """

    kind: str
    table: Table
    compares: tuple[str, str] | None = None
    trains: str = INTO
    same_size: bool = False

    def images(self, domain: str) -> tuple[str, str]:
        """The names of the two images that the slot compares in a domain."""
        assert self.compares is not None
        made, target = self.compares
        if target == "source":
            return f"{made}_{domain}", f"real_{OTHER_DOMAIN[domain]}"
        return f"{made}_{domain}", f"{target}_{domain}"

    def trained(self, domain: str) -> set[str]:
        """The generators that the slot trains in a domain."""
        if self.trains == BOTH:
            return set(GENERATOR_INTO.values())
        return {GENERATOR_INTO[domain]} if self.trains == INTO else set()


# In the order in which the losses are summed.
SLOTS = (
    LossSlot("adversarial", ADVERSARIAL_LOSSES),
    LossSlot("cycle", IMAGE_LOSSES, compares=("rec", "real"), trains=BOTH),
    LossSlot("content", IMAGE_LOSSES, compares=("fake", "source")),
    LossSlot("identity", IMAGE_LOSSES, compares=("idt", "real"), same_size=True),
    LossSlot("pseudo_pair", IMAGE_LOSSES, compares=("pse", "real")),
    LossSlot("nce", CONTRASTIVE_LOSSES, same_size=True),
    LossSlot("penalty", PENALTIES, trains=NONE),
)
# Each slot in each domain, by the name of its losses: cycle_A, cycle_B ...
SLOT_NAMES = {f"{slot.kind}_{domain}": (slot, domain) for slot in SLOTS for domain in "AB"}


def build_losses(
    expressions: Mapping[str, Expression], model: CycleGAN, *, scale: int
) -> dict[str, WeightedLosses]:
    """The losses of every slot by name, from the expressions of the same names. Raises UserError
    if they do not make a training.
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    losses: dict[str, WeightedLosses] = {}
    for name, (slot, _) in SLOT_NAMES.items():
        terms = expressions[name]
        # The heads of one --nce belong to the generators' encoders, and serve both directions.
        shared = losses.get("nce_A") if terms.option == slot.kind == "nce" else None
        losses[name] = shared or WeightedLosses(terms, slot.table, device=device)
    for domain in "AB":
        _check_adversarial(losses[f"adversarial_{domain}"], losses[f"penalty_{domain}"])
    _check_same_size(losses, scale)
    _check_trained(model.generators, losses)
    _prepare_contrast(model, losses)
    return losses


def trainable_loss_modules(losses: Mapping[str, WeightedLosses]) -> nn.ModuleDict:
    """The losses that learn, such as contrastive heads; both domains may share one."""
    modules = {
        module: f"{name}_{label}"
        for name, part in losses.items()
        for label, module in part.trainable_modules().items()
    }
    return nn.ModuleDict({name: module for module, name in modules.items()})


def _check_adversarial(adversarial: WeightedLosses, penalty: WeightedLosses) -> None:
    """Raises UserError if a discriminator cannot be trained by these losses."""
    for part in adversarial.losses:
        if not (hasattr(part.loss, "generator") and hasattr(part.loss, "discriminator")):
            raise UserError(
                f"--{adversarial.option} {part.label} is no adversarial loss: it has no "
                "generator(D, fake, real) and discriminator(D, fake, real)"
            )
        if getattr(part.loss, "needs_penalty", False) and not penalty:
            raise UserError(
                f"--{adversarial.option} {part.label} diverges without a penalty: add "
                '--penalty "10*gradient_penalty"'
            )
    if penalty and not adversarial:
        raise UserError(
            f"--{penalty.option} has no discriminator to regularize, as --{adversarial.option} is "
            f"none: give --{penalty.option} none"
        )


def _check_same_size(losses: Mapping[str, WeightedLosses], scale: int) -> None:
    for name, (slot, _) in SLOT_NAMES.items():
        if scale > 1 and slot.same_size and losses[name]:
            option = losses[name].option
            instead = " (--pseudo_pair_B takes its place)" if slot.kind == "identity" else ""
            raise UserError(
                f"--{option} compares images of one size, which --scale {scale} does not make: "
                f"give --{option} none{instead}"
            )


def _check_trained(generators: nn.ModuleDict, losses: Mapping[str, WeightedLosses]) -> None:
    """Raises UserError if a loss has no generator to train, or a generator no loss."""
    trainable = {name for name, network in generators.items() if list(network.parameters())}
    if not trainable:
        raise UserError("--generator and --generator_BA are both fixed: there is nothing to train")
    trained: set[str] = set()
    for name, (slot, domain) in SLOT_NAMES.items():
        generators_of_slot = slot.trained(domain) if losses[name] else set()
        if generators_of_slot and not generators_of_slot & trainable:
            fixed = "".join(generators_of_slot)
            raise UserError(
                f"--{losses[name].option} has nothing to train, as {fixed} is fixed: "
                f"give --{name} none"
            )
        trained |= generators_of_slot
    for name in sorted(trainable - trained):
        fixed = ", or --generator_BA bicubic, which is fixed" if name == "G_BA" else ""
        raise UserError(
            f"nothing trains {name}: give it a loss (--adversarial, --cycle, --pseudo_pair){fixed}"
        )


def _prepare_contrast(model: CycleGAN, losses: Mapping[str, WeightedLosses]) -> None:
    for domain in "AB":
        slot = losses[f"nce_{domain}"]
        for part in slot.losses:
            # A contrastive loss of the user's own may need no preparation.
            if isinstance(part.loss, PatchNCE):
                try:
                    part.loss.prepare(model.generators, domain)
                except ValueError as error:
                    raise UserError(f"--{slot.option}: {error}") from None
