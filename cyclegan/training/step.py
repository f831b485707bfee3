"""One training step: the generators are updated, then the discriminators."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.data.loading.sampler import MicroBatch, split_batch
from cyclegan.hardware.distributed import SINGLE_PROCESS, ProcessGroup
from cyclegan.losses.weighted import START, Clock
from cyclegan.training.algorithm.image_pool import ImagePool
from cyclegan.training.algorithm.model import CycleGAN, Images
from cyclegan.training.algorithm.objective import Losses, Objective

# Before a network's name: the norm of its gradient.
GRADIENT = "gradient_"


@dataclass(eq=False)
class Side:
    """All generators, or all discriminators, and what updates them.

    forward: images of a micro-batch and the clock to images for the other side, and losses.
    parameters: by network; a fixed network has none and is left out.
    due: the key of the CUDA graph for a step at this time.
    """

    forward: Callable[[Images, Clock], tuple[Images, Losses]]
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, Sequence[nn.Parameter]]
    scaler: torch.amp.GradScaler
    due: Callable[[Clock], Hashable]


class TrainingStep:
    """The training step of CycleGAN (Zhu et al., 2017) with its networks, losses and optimizers.

    The losses come back detached, on the device; beside them are the gradient norms of the
    networks, `gradient_G_AB` and so on. `cycle_errors` holds the cycle error of each image of the
    last step, `error_A` and `error_B`.
    """

    def __init__(
        self,
        model: CycleGAN,
        objective: Objective,
        *,
        generators: Side,
        discriminators: Side,
        loss_modules: nn.ModuleDict,
        pools: Mapping[str, ImagePool],
        batch_size: int,
        accumulate: int = 1,
        clip_grad: float = 0.0,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """batch_size: the images of each domain in a micro-batch of this process."""
        self.model, self.objective, self.loss_modules = model, objective, loss_modules
        self.generators, self.discriminators = generators, discriminators
        self.pools = pools
        self.batch_size, self.images_per_step = batch_size, batch_size * accumulate
        self.clip_grad = clip_grad
        self.process_group = process_group
        self.cycle_errors: Images = {}
        # True while the generators of a step are updated and the discriminators are not.
        self.is_halfway = False
        # A full step may run as CUDA graphs; an epoch's short last step never does.
        self.minimize_full: Callable[..., tuple[Images, Losses]] = self.minimize

    def __call__(
        self,
        real_A: Tensor,
        real_B: Tensor,
        clock: Clock = START,
        micro_batches: Sequence[MicroBatch] | None = None,
    ) -> Losses:
        """Updates both sides on NCHW images in [-1, 1]. `micro_batches` splits a step that has
        fewer images than `images_per_step`.
        """
        images = {"real_A": real_A, "real_B": real_B}
        short = micro_batches is not None or len(real_A) != self.images_per_step
        minimize = self.minimize if short else self.minimize_full
        with self._uncompiled() if short else nullcontext():
            self.model.discriminators.requires_grad_(False)
            outputs, losses_G = minimize(self.generators, images, clock, micro_batches)
            self.is_halfway = True

            self.model.discriminators.requires_grad_(True)
            fakes = {n: self.pools[n[-1]].query(outputs[n]) for n in self.objective.fakes}
            losses_D: Losses = {}
            if fakes:
                real_and_fake = images | fakes
                _, losses_D = minimize(self.discriminators, real_and_fake, clock, micro_batches)
            self.is_halfway = False
        self.cycle_errors = {n: each for n, each in outputs.items() if n.startswith("error")}
        return losses_G | losses_D

    def minimize(
        self,
        side: Side,
        images: Images,
        clock: Clock,
        micro_batches: Sequence[MicroBatch] | None = None,
    ) -> tuple[Images, Losses]:
        """One optimizer step on the mean loss over the micro-batches; none if a loss or a gradient
        is not finite. Retries once after CUDA runs out of memory: no weight has changed by then.
        """
        for retries in (1, 0):
            try:
                outputs, losses = self._backward(side, images, clock, micro_batches)
                break
            except torch.OutOfMemoryError:
                # Other ranks would wait for the gradients of the first attempt.
                if not retries or self.process_group.size > 1:
                    raise
            # Outside the handler: the traceback keeps tensors alive.
            torch.cuda.empty_cache()
        if not losses:
            return outputs, losses
        norm, norms = self._clip(side)
        if side.scaler.is_enabled():
            side.scaler.step(side.optimizer)
            side.scaler.update()
        elif getattr(side.optimizer, "_step_supports_amp_scaling", False):
            # Fused optimizers skip the update by themselves, without a synchronization.
            with _found_inf(side.optimizer, ~norm.isfinite()):
                side.optimizer.step()
        elif bool(norm.isfinite()):
            side.optimizer.step()
        return outputs, losses | {f"{GRADIENT}{name}": each for name, each in norms.items()}

    def _backward(
        self,
        side: Side,
        images: Images,
        clock: Clock,
        micro_batches: Sequence[MicroBatch] | None,
    ) -> tuple[Images, Losses]:
        """Accumulates gradients over the micro-batches; each is freed before the next begins."""
        side.optimizer.zero_grad(set_to_none=True)
        outputs: dict[str, list[Tensor]] = {}
        losses: Losses = {}
        for weight, part, sync in self._split(side, images, micro_batches):
            with sync:
                made, values = side.forward(part, clock)
                if values:
                    total = torch.stack(list(values.values())).sum()
                    total = side.scaler.scale(poison_if_nonfinite(weight * total))
                    torch.autograd.backward(total)
            for name, each in made.items():
                outputs.setdefault(name, []).append(each)
            for name, value in values.items():
                losses[name] = losses.get(name, 0.0) + weight * value.detach()
            del made, values
        return {name: torch.cat(each) for name, each in outputs.items()}, losses

    def _split(
        self, side: Side, images: Images, micro_batches: Sequence[MicroBatch] | None
    ) -> Iterator[tuple[float, Images, AbstractContextManager[Any]]]:
        """The weight and the images of each micro-batch, and a context for its backward pass:
        ranks exchange gradients only in that of the last one.
        """
        count = len(images["real_A"])
        micro_batches = micro_batches or split_batch(count, batch_size=self.batch_size)
        sizes = [len(each) for each in micro_batches]
        split = {name: torch.split(image, sizes) for name, image in images.items()}
        for index, each in enumerate(micro_batches):
            last = index + 1 == len(micro_batches)
            sync = nullcontext() if last else self.process_group.no_sync(side.forward)
            yield each.weight, {name: part[index] for name, part in split.items()}, sync

    def _clip(self, side: Side) -> tuple[Tensor, dict[str, Tensor]]:
        """Unscales the gradients and clips their global L2 norm to `clip_grad`, if that is not 0.
        Returns the norm before clipping, overall and by network.
        """
        side.scaler.unscale_(side.optimizer)
        gradients = {
            name: [p.grad for p in parameters if p.grad is not None]
            for name, parameters in side.parameters.items()
        }
        each = torch._foreach_norm([grad for grads in gradients.values() for grad in grads])
        norms: dict[str, Tensor] = {}
        for name, grads in gradients.items():
            if grads:
                norms[name] = torch.linalg.vector_norm(torch.stack(each[: len(grads)]))
            each = each[len(grads) :]
        norm = torch.linalg.vector_norm(torch.stack(list(norms.values())))
        if self.clip_grad:
            trained = [p for group in side.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grads_with_norm_(trained, self.clip_grad, norm)
        return norm, norms

    def _uncompiled(self) -> AbstractContextManager[Any]:
        """A short step is not worth compiling for its size."""
        if self.model.plan.compile == "off":
            return nullcontext()
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance


def poison_if_nonfinite(loss: Tensor) -> Tensor:
    """Multiplies a non-finite loss by NaN, so that every rank sees NaN gradients and skips the
    update.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)


@contextmanager
def _found_inf(optimizer: Any, found_inf: Tensor) -> Iterator[None]:
    """Tells a fused optimizer to skip its update where `found_inf` is true on the device."""
    optimizer.grad_scale, optimizer.found_inf = None, found_inf.float()
    try:
        yield
    finally:
        del optimizer.grad_scale, optimizer.found_inf
