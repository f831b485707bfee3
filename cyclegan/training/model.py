"""Two generators, two discriminators, and the images they make of a pair of batches."""

from dataclasses import dataclass

from torch import Tensor, nn

from cyclegan import spec
from cyclegan.errors import UserError
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.layers import initialize
from cyclegan.settings import TrainSettings


@dataclass(frozen=True)
class Images:
    """NCHW batches in [-1, 1]; a suffix is the domain of the image."""

    real_A: Tensor
    real_B: Tensor
    fake_A: Tensor
    fake_B: Tensor
    rec_A: Tensor
    rec_B: Tensor
    idt_A: Tensor | None = None
    idt_B: Tensor | None = None


class CycleGAN(nn.Module):
    """Both directions at once (Zhu et al., 2017, fig. 3).

    Args:
        identity: the domains whose images also pass through the generator into that domain.
    """

    def __init__(
        self,
        *,
        G_AB: nn.Module,
        G_BA: nn.Module,
        D_A: nn.Module,
        D_B: nn.Module,
        identity: str,
    ) -> None:
        super().__init__()
        self.generators = nn.ModuleDict({"G_AB": G_AB, "G_BA": G_BA})
        self.discriminators = nn.ModuleDict({"D_A": D_A, "D_B": D_B})
        self.identity = identity

    def forward(self, real_A: Tensor, real_B: Tensor) -> Images:
        G_AB, G_BA = self.generators["G_AB"], self.generators["G_BA"]
        fake_B, fake_A = G_AB(real_A), G_BA(real_B)
        return Images(
            real_A=real_A,
            real_B=real_B,
            fake_A=fake_A,
            fake_B=fake_B,
            rec_A=G_BA(fake_B),
            rec_B=G_AB(fake_A),
            idt_A=G_BA(real_A) if "A" in self.identity else None,
            idt_B=G_AB(real_B) if "B" in self.identity else None,
        )


def build_model(settings: TrainSettings, *, trusted: bool = True) -> CycleGAN:
    """The networks that the settings name, freshly initialized from torch's global generator."""
    networks = {name: build_generator(settings, name, trusted=trusted) for name in ("G_AB", "G_BA")}
    for name in ("D_A", "D_B"):
        term = spec.parse_one(settings.discriminator, slot="discriminator")
        networks[name] = spec.build(
            term, DISCRIMINATORS, slot="discriminator", trusted=trusted, channels=settings.ndf
        )
    for network in networks.values():
        initialize(network, init_type=settings.init_type, gain=settings.init_gain)
    # A pass that no loss looks at is not made.
    identity = [d for d in "AB" if spec.parse(settings.slot("identity", d), slot="identity")]
    return CycleGAN(**networks, identity="".join(identity))


def build_generator(settings: TrainSettings, name: str, *, trusted: bool = True) -> nn.Module:
    """One generator, G_AB or G_BA, not yet initialized."""
    assert name in ("G_AB", "G_BA")
    term = spec.parse_one(settings.generator_of(name), slot="generator")
    network: nn.Module = spec.build(
        term, GENERATORS, slot="generator", trusted=trusted, channels=settings.ngf
    )
    return network


def check_sizes(model: CycleGAN, settings: TrainSettings) -> None:
    """Raises UserError where the crops do not fit the networks."""
    if "crop" not in settings.preprocess and settings.preprocess != "resize":
        return
    cropped = "crop" in settings.preprocess
    option, side = (
        ("crop_size", settings.crop_size) if cropped else ("load_size", settings.load_size)
    )
    for network in model.generators.values():
        multiple = int(getattr(network, "multiple", 1))
        if side % multiple or side < 4 * multiple:
            raise UserError(
                f"--{option} {side} does not fit the generator: use a multiple of {multiple}, "
                f"at least {4 * multiple}"
            )
    for network in model.discriminators.values():
        smallest = int(getattr(network, "min_size", 1))
        if side < smallest:
            raise UserError(
                f"--{option} {side} is too small for the discriminator, which needs {smallest}: "
                "raise it, or give the discriminator fewer layers"
            )
