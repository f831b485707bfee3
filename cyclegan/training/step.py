"""One training step: the generators learn, then the discriminators."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from cyclegan.config.train_options import TrainSettings
from cyclegan.data.loading.sampler import Share, deal
from cyclegan.hardware.distributed import ALONE, World
from cyclegan.losses.weighted import START, Clock
from cyclegan.networks.execution import PLAIN, Speed
from cyclegan.training.algorithm.image_pool import ImagePool
from cyclegan.training.algorithm.model import CycleGAN, Images
from cyclegan.training.algorithm.objective import Losses, Objective, cycle_errors
from cyclegan.training.algorithm.optimizers import build_optimizer, marked, update
from cyclegan.training.resources.cuda_graphs import Replayed

# In front of a network's name: the length of its gradient.
GRADIENT = "gradient_"


class Stepper:
    """The two sides' losses, optimizers and pools; `step` is the whole algorithm."""

    def __init__(
        self,
        model: CycleGAN,
        settings: TrainSettings,
        *,
        speed: Speed = PLAIN,
        say: Callable[[str], object] = print,
        world: World = ALONE,
    ) -> None:
        self.model = model
        model.run(speed)
        self.compiled = speed.compile != "off"
        self.world = world
        # Of this process, as `world` deals them out.
        self.batch_size = world.each(settings.images_per_step // settings.accumulate)
        self.images_per_step = self.batch_size * settings.accumulate
        self.clip_grad = settings.clip_grad
        self.objective = Objective(model, settings)
        self.heads = self.objective.heads
        common: dict[str, Any] = {"settings": settings, "speed": speed}
        learners = nn.ModuleList([model.generators, self.heads])
        self.look_G, self.look_D = self._looks(learners)
        self.optimizer_G = build_optimizer(learners.parameters(), of="G", **common)
        self.optimizer_D = build_optimizer(model.discriminators.parameters(), of="D", **common)
        self.networks = {
            self.optimizer_G: _parameters(**model.generators, heads=self.heads),
            self.optimizer_D: _parameters(**model.discriminators),
        }
        device = next(learners.parameters()).device.type
        # Only fp16 has too small a range for gradients; else a scaler does nothing.
        self.scalers = {
            optimizer: torch.amp.GradScaler(device, enabled=speed.precision == "fp16")
            for optimizer in (self.optimizer_G, self.optimizer_D)
        }
        # Of the last step: the cycle error of each image, in levels of 255, by "error_A".
        self.errors: dict[str, Tensor] = {}
        # Whether a step has taught the generators, but not yet the discriminators.
        self.is_halfway = False
        self.teach_G: Callable[..., Any] = self.teach_generators
        self.teach_D: Callable[..., Any] = self.teach_discriminators
        if speed.graph:
            self._record(say)
        self.pools = {
            domain: ImagePool(settings.pool_size, seed=settings.seed + offset)
            for offset, domain in enumerate("AB")
        }

    def _looks(self, learners: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What either half computes of its batches, with gradients over all processes."""
        # Both games train both generators; heads learn from a loss of their own.
        sometimes = not self.objective.plays or len(self.heads) > 0
        judged = self.model.discriminators
        return (
            self.world.parallel(self._generators_look, learners, sometimes=sometimes),
            self.world.parallel(self.objective.discriminator_losses, judged, sometimes=False),
        )

    def step(
        self,
        real_A: Tensor,
        real_B: Tensor,
        clock: Clock = START,
        shares: Sequence[Share] | None = None,
    ) -> Losses:
        """NCHW batches of either domain in [-1, 1]; gives the losses, detached, on the device, and
        the lengths of the networks' gradients. `shares` tells what falls to this process of a step
        that has fewer images than others.
        """
        with self._halves(len(real_A), shares) as (teach_G, teach_D):
            self.model.discriminators.requires_grad_(False)
            made, losses_G = teach_G(clock, real_A=real_A, real_B=real_B)
            fakes = {name: made.pop(name) for name in self.objective.judged()}
            self.errors = made
            self.is_halfway = True

            self.model.discriminators.requires_grad_(True)
            remembered = {name: self.pools[name[-1]].query(fake) for name, fake in fakes.items()}
            losses_D = teach_D(clock, real_A=real_A, real_B=real_B, **remembered) if fakes else {}
            self.is_halfway = False

        return cast(Losses, losses_G | losses_D)

    def teach_generators(
        self,
        clock: Clock,
        *,
        real_A: Tensor,
        real_B: Tensor,
        shares: Sequence[Share] | None = None,
    ) -> tuple[dict[str, Tensor], Losses]:
        """One update; gives the fakes that were made before it, detached: the discriminators' step
        must not reach the generators; and the cycle errors.
        """
        made: dict[str, list[Tensor]] = {}

        def losses() -> Iterator[tuple[float, Losses]]:
            for weight, (share_A, share_B) in self._shares(self.look_G, shares, real_A, real_B):
                part, values = self.look_G(share_A, share_B, clock)
                for name, each in part.items():
                    made.setdefault(name, []).append(each)
                yield weight, values

        values = self.minimize(self.optimizer_G, losses())
        return {name: torch.cat(parts) for name, parts in made.items()}, values

    def teach_discriminators(
        self, clock: Clock, *, shares: Sequence[Share] | None = None, **images: Tensor
    ) -> Losses:
        """One update, on real images and on fakes that carry no gradient."""

        def losses() -> Iterator[tuple[float, Losses]]:
            for weight, share in self._shares(self.look_D, shares, *images.values()):
                shown = Images(**dict(zip(images, share, strict=True)))
                yield weight, self.look_D(shown, clock)

        return self.minimize(self.optimizer_D, losses())

    def _generators_look(
        self, real_A: Tensor, real_B: Tensor, clock: Clock
    ) -> tuple[dict[str, Tensor], Losses]:
        images = self.model(real_A, real_B, self.objective.passes(clock))
        shown = {name: images.get(name).detach() for name in self.objective.judged()}
        return shown | cycle_errors(images), self.objective.generator_losses(images, clock)

    def minimize(
        self,
        optimizer: torch.optim.Optimizer,
        shares: Iterable[tuple[float, Losses]],
    ) -> Losses:
        """One update towards a smaller sum, in the mean over the shares of a batch, each of which
        is let go before the next is asked for; none where a loss or the gradient is not finite.
        Gives the values, detached, and the length of each network's gradient.
        """
        optimizer.zero_grad(set_to_none=True)
        scaler = self.scalers[optimizer]
        values: Losses = {}
        for weight, losses in shares:
            if losses:
                total = torch.stack(list(losses.values())).sum()
                torch.autograd.backward(scaler.scale(marked(weight * total)))
            for name, value in losses.items():
                values[name] = values.get(name, 0.0) + weight * value.detach()
        if values:
            networks = self.networks[optimizer]
            lengths = update(optimizer, scaler, networks=networks, longest=self.clip_grad)
            values |= {f"{GRADIENT}{name}": length for name, length in lengths.items()}
        return values

    def _record(self, say: Callable[[str], object]) -> None:
        recorded: dict[str, Any] = {"pool": torch.cuda.graph_pool_handle(), "say": say}
        self.teach_G = Replayed(
            self.teach_generators, pattern=self.objective.generators_pattern, **recorded
        )
        self.teach_D = Replayed(
            self.teach_discriminators, pattern=self.objective.discriminators_pattern, **recorded
        )

    @contextmanager
    def _halves(
        self, num: int, shares: Sequence[Share] | None
    ) -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
        """Both halves of a step on so many images. Of an epoch's last few they run as written: to
        compile and record them for that size would cost more than it gains.
        """
        if num == self.images_per_step and shares is None:
            yield self._twice(self.teach_G), self._twice(self.teach_D)
            return
        as_written = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        with as_written:
            yield (
                self._twice(partial(self.teach_generators, shares=shares)),
                self._twice(partial(self.teach_discriminators, shares=shares)),
            )

    def _twice(self, half: Callable[..., Any]) -> Callable[..., Any]:
        """The same, with a second try where memory did not do: by then no weight had changed."""

        def attempt(clock: Clock, **tensors: Tensor) -> Any:
            try:
                return half(clock, **tensors)
            except torch.OutOfMemoryError:
                # The others would wait for the first try's gradients.
                if self.world.size > 1:
                    raise
            # Past the handler: the error's frames hold memory.
            torch.cuda.empty_cache()
            return half(clock, **tensors)

        return attempt

    def _shares(
        self, look: Callable[..., object], shares: Sequence[Share] | None, *batches: Tensor
    ) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """The batches in parts, and what each counts. Only with the last are gradients exchanged
        between processes.
        """
        dealt = shares or deal(len(batches[0]), batch_size=self.batch_size)
        sizes = [len(share) for share in dealt]
        parts = zip(*(torch.split(batch, sizes) for batch in batches), strict=True)
        for place, (share, part) in enumerate(zip(dealt, parts, strict=True), 1):
            with self.world.apart(look) if place < len(dealt) else nullcontext():
                yield share.weight, part


def _parameters(**networks: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Of each network that has any."""
    found = {name: list(network.parameters()) for name, network in networks.items()}
    return {name: parameters for name, parameters in found.items() if parameters}
