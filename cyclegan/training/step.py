"""One training step: the generators learn, then the discriminators."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from cyclegan.data.shares import Share, deal
from cyclegan.losses.terms import START, Clock
from cyclegan.networks.running import PLAIN, Speed
from cyclegan.settings import TrainSettings
from cyclegan.training.model import CycleGAN, Images
from cyclegan.training.optim import build_optimizer, marked, update
from cyclegan.training.parallel import ALONE, World
from cyclegan.training.pool import ImagePool
from cyclegan.training.replay import Replayed
from cyclegan.training.slots import PAIRS, build_slots, equally_large, heads, judges

Losses = dict[str, Tensor]


class Stepper:
    """The two sides' losses, optimizers and pools; `step` is the whole algorithm."""

    def __init__(
        self,
        model: CycleGAN,
        settings: TrainSettings,
        *,
        speed: Speed = PLAIN,
        trusted: bool = True,
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
        self.slots = build_slots(settings, model, trusted=trusted)
        networks = {name: model.running[name] for name in model.discriminators}
        self.judges = judges(settings, networks, trusted=trusted)
        # Penalties differentiate twice, which neither half precision nor compiled code is for.
        self.plain_judges = judges(settings, dict(model.discriminators.items()), trusted=trusted)
        self.heads = heads(self.slots)
        common: dict[str, Any] = {"settings": settings, "speed": speed, "trusted": trusted}
        learners = nn.ModuleList([model.generators, self.heads])
        self.look_G, self.look_D = self._looks(learners)
        self.optimizer_G = build_optimizer(learners.parameters(), of="G", **common)
        self.optimizer_D = build_optimizer(model.discriminators.parameters(), of="D", **common)
        device = next(learners.parameters()).device.type
        # Only fp16 has too small a range for gradients; else a scaler does nothing.
        self.scalers = {
            optimizer: torch.amp.GradScaler(device, enabled=speed.precision == "fp16")
            for optimizer in (self.optimizer_G, self.optimizer_D)
        }
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
        plays = all(self.slots[f"adversarial_{domain}"].always_due for domain in "AB")
        sometimes = not plays or len(self.heads) > 0
        judged = self.model.discriminators
        return (
            self.world.parallel(self._generators_look, learners, sometimes=sometimes),
            self.world.parallel(self.discriminator_losses, judged, sometimes=False),
        )

    def step(
        self,
        real_A: Tensor,
        real_B: Tensor,
        clock: Clock = START,
        shares: Sequence[Share] | None = None,
    ) -> Losses:
        """NCHW batches of either domain in [-1, 1]; gives the losses, detached, on the device, and
        the lengths of both gradients. `shares` tells what falls to this process of a step that
        has fewer images than others.
        """
        with self._halves(len(real_A), shares) as (teach_G, teach_D):
            self.model.discriminators.requires_grad_(False)
            fakes, losses_G = teach_G(clock, real_A=real_A, real_B=real_B)
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
        must not reach the generators.
        """
        fakes: dict[str, list[Tensor]] = {name: [] for name in self._judged()}

        def losses() -> Iterator[tuple[float, Losses]]:
            for weight, (share_A, share_B) in self._shares(self.look_G, shares, real_A, real_B):
                made, values = self.look_G(share_A, share_B, clock)
                for name, fake in made.items():
                    fakes[name].append(fake)
                yield weight, values

        values = self.minimize(self.optimizer_G, losses(), gradient="gradient_G")
        return {name: torch.cat(made) for name, made in fakes.items()}, values

    def teach_discriminators(
        self, clock: Clock, *, shares: Sequence[Share] | None = None, **images: Tensor
    ) -> Losses:
        """One update, on real images and on fakes that carry no gradient."""

        def losses() -> Iterator[tuple[float, Losses]]:
            for weight, share in self._shares(self.look_D, shares, *images.values()):
                shown = Images(**dict(zip(images, share, strict=True)))
                yield weight, self.look_D(shown, clock)

        return self.minimize(self.optimizer_D, losses(), gradient="gradient_D")

    def _generators_look(
        self, real_A: Tensor, real_B: Tensor, clock: Clock
    ) -> tuple[dict[str, Tensor], Losses]:
        images = self.model(real_A, real_B, self.passes(clock))
        fakes = {name: images.get(name).detach() for name in self._judged()}
        return fakes, self.generator_losses(images, clock)

    def _judged(self) -> list[str]:
        return [f"fake_{domain}" for domain in "AB" if f"D_{domain}" in self.judges]

    def generators_pattern(self, clock: Clock) -> Hashable:
        """All that the generators' half goes by, but for its images: which losses are due."""
        return self._due(clock, [name for name in self.slots if not name.startswith("penalty")])

    def discriminators_pattern(self, clock: Clock) -> Hashable:
        """The same for the discriminators' half, whose games are always due."""
        return self._due(clock, ["penalty_A", "penalty_B"])

    def _due(self, clock: Clock, names: Iterable[str]) -> Hashable:
        return tuple(part.due(clock) for name in names for part in self.slots[name].losses)

    def passes(self, clock: Clock) -> set[str]:
        """The images that some loss looks at in this step."""
        wanted = {made for slot, (made, _) in PAIRS.items() if self.slots[slot].due(clock)}
        wanted |= set(self._judged())
        return wanted | {f"fake_{d}" for d in "AB" if self.slots[f"nce_{d}"].due(clock)}

    def generator_losses(self, images: Images, clock: Clock = START) -> Losses:
        """One flat dict: its sum is what the generators minimize, its keys name the curves."""
        losses: Losses = {}
        for domain in "AB":
            if judge := self.judges.get(f"D_{domain}"):
                pair = images.get(f"fake_{domain}"), images.get(f"real_{domain}")
                name = f"adversarial_{domain}"
                losses |= self.slots[name].evaluate(
                    name, judge, *pair, method="generator", clock=clock
                )
        for name, (made, target) in PAIRS.items():
            if self.slots[name].due(clock):
                pair = equally_large(images.get(made), images.get(target))
                losses |= self.slots[name].image_losses(name, *pair, clock)
        for domain, source in (("A", images.real_B), ("B", images.real_A)):
            name = f"nce_{domain}"
            if self.slots[name].due(clock):
                pair = source, images.get(f"fake_{domain}")
                losses |= self.slots[name].evaluate(
                    name, self.model.running, domain, *pair, clock=clock
                )
        return losses

    def discriminator_losses(self, images: Images, clock: Clock = START) -> Losses:
        losses: Losses = {}
        for domain in "AB":
            if judge := self.judges.get(f"D_{domain}"):
                pair = images.get(f"fake_{domain}"), images.get(f"real_{domain}")
                # A weight on the adversarial loss balances it against the generators' other
                # losses; a discriminator has no others.
                losses |= self.slots[f"adversarial_{domain}"].evaluate(
                    f"D_{domain}", judge, *pair, method="discriminator", weighted=False
                )
                plain = self.plain_judges[f"D_{domain}"]
                losses |= self.slots[f"penalty_{domain}"].evaluate(
                    f"penalty_{domain}", plain, *pair, clock=clock
                )
        return losses

    def minimize(
        self,
        optimizer: torch.optim.Optimizer,
        shares: Iterable[tuple[float, Losses]],
        *,
        gradient: str,
    ) -> Losses:
        """One update towards a smaller sum, in the mean over the shares of a batch, each of which
        is let go before the next is asked for; none where a loss or the gradient is not finite.
        Gives the values, detached, and under `gradient` its length.
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
            values[gradient] = update(optimizer, scaler, longest=self.clip_grad)
        return values

    def _record(self, say: Callable[[str], object]) -> None:
        recorded: dict[str, Any] = {"pool": torch.cuda.graph_pool_handle(), "say": say}
        self.teach_G = Replayed(self.teach_generators, pattern=self.generators_pattern, **recorded)
        self.teach_D = Replayed(
            self.teach_discriminators, pattern=self.discriminators_pattern, **recorded
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
