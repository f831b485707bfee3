"""Builds networks, losses, optimizers and the training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from cyclegan.config.train_options import TrainSettings
from cyclegan.hardware.distributed import SINGLE_PROCESS, ProcessGroup
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan
from cyclegan.networks.factory import GENERATOR_NAMES, build_discriminator, build_generator
from cyclegan.networks.layers import initialize
from cyclegan.training.algorithm.image_pool import ImagePool
from cyclegan.training.algorithm.loss_slots import (
    SLOT_NAMES,
    build_losses,
    trainable_loss_modules,
)
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.model import CycleGAN, check_sizes
from cyclegan.training.algorithm.objective import Objective
from cyclegan.training.algorithm.optimizers import build_optimizer
from cyclegan.training.resources.cuda_graphs import GraphedCallable
from cyclegan.training.step import Side, TrainingStep


@dataclass(frozen=True)
class StepBuilder:
    """Builds the networks, the training step and the schedule that settings name."""

    settings: TrainSettings

    def model(self) -> CycleGAN:
        """The networks, freshly initialized from torch's global generator."""
        settings = self.settings
        generators = {
            name: build_generator(**settings.generator_options(name)) for name in GENERATOR_NAMES
        }
        discriminators = {
            f"D_{domain}": build_discriminator(settings.discriminator, channels=settings.ndf)
            for domain in "AB"
            if settings.slot("adversarial", domain)
        }
        for network in (*generators.values(), *discriminators.values()):
            initialize(network, init_type=settings.init_type, gain=settings.init_gain)
        return CycleGAN(**generators, discriminators=discriminators)

    def step(
        self,
        model: CycleGAN,
        *,
        plan: ExecutionPlan = EAGER_FP32,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> TrainingStep:
        """The training step of a model, which runs by the plan from now on."""
        model.configure(plan)
        settings = self.settings
        batch_size = process_group.per_process(settings.images_per_step // settings.accumulate)
        expressions = {name: settings.slot(slot.kind, d) for name, (slot, d) in SLOT_NAMES.items()}
        losses = build_losses(expressions, model, scale=settings.scale)
        objective = Objective(model, losses, diffaugment=settings.diffaugment)
        loss_modules = trainable_loss_modules(losses)
        generators, discriminators = self._sides(objective, loss_modules, process_group)
        step = TrainingStep(
            model,
            objective,
            generators=generators,
            discriminators=discriminators,
            loss_modules=loss_modules,
            pools={
                domain: ImagePool(settings.pool_size, seed=settings.seed + offset)
                for offset, domain in enumerate("AB")
            },
            batch_size=batch_size,
            accumulate=settings.accumulate,
            clip_grad=settings.clip_grad,
            process_group=process_group,
        )
        if plan.cuda_graphs:
            step.minimize_full = GraphedCallable(step.minimize)
        return step

    def _sides(
        self, objective: Objective, loss_modules: nn.ModuleDict, group: ProcessGroup
    ) -> tuple[Side, Side]:
        """The generators with the networks of the losses, and the discriminators."""
        settings, model = self.settings, objective.model
        trained = nn.ModuleList([model.generators, loss_modules])
        # DDP must search for unused parameters unless both adversarial losses run at every step.
        unused = not objective.adversarial_every_step or len(loss_modules) > 0
        optimizer = partial(build_optimizer, beta1=settings.beta1, plan=model.plan)
        scaler = partial(
            torch.amp.GradScaler,
            next(trained.parameters()).device.type,
            # Only fp16 has too small a range for gradients; otherwise the scaler does nothing.
            enabled=model.plan.precision == "fp16",
        )
        generators = Side(
            group.data_parallel(objective.generators, trained, find_unused_parameters=unused),
            optimizer(trained.parameters(), settings.optimizer, lr=settings.lr),
            _parameters({**model.generators, "heads": loss_modules}),
            scaler(),
            objective.due_generators,
        )
        discriminators = Side(
            group.data_parallel(
                objective.discriminators, model.discriminators, find_unused_parameters=False
            ),
            optimizer(
                model.discriminators.parameters(),
                settings.optimizer_D or settings.optimizer,
                lr=settings.lr_D or settings.lr,
            ),
            _parameters(dict(model.discriminators.items())),
            scaler(),
            objective.due_discriminators,
        )
        return generators, discriminators

    def schedule(self, *, epoch_length: int) -> Schedule:
        settings = self.settings
        return Schedule(
            settings.schedule,
            epoch_length=epoch_length,
            images_per_step=settings.images_per_step,
            n_epochs=settings.n_epochs,
            n_epochs_decay=settings.n_epochs_decay,
            steps=settings.steps,
            warmup_steps=settings.warmup_steps,
            evaluate_every=settings.evaluate_every,
        )

    def check_sizes(self, model: CycleGAN) -> None:
        """Raises UserError if images of a fixed size do not fit the networks."""
        settings = self.settings
        if self.has_fixed_size():
            option = "crop_size" if "crop" in settings.preprocess else "load_size"
            side = getattr(settings, option)
            check_sizes(model, option=option, side=side, scale=settings.scale)

    def has_fixed_size(self) -> bool:
        """Whether all images of a domain reach the networks in one size."""
        return "crop" in self.settings.preprocess or self.settings.preprocess == "resize"


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    parameters = {name: list(network.parameters()) for name, network in networks.items()}
    return {name: each for name, each in parameters.items() if each}
