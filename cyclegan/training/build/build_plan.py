"""Asks for a run's execution plan, and tries steps for its memory, batch size and custom parts."""

from dataclasses import dataclass, replace

import torch

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import DomainImages
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.hardware.distributed import SINGLE_PROCESS, ProcessGroup
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.networks.factory import GENERATOR_NAMES
from cyclegan.training.algorithm.loss_slots import SLOT_NAMES
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.resources.custom_parts import check_custom_parts
from cyclegan.training.resources.execution_plan import is_static, plan_execution
from cyclegan.training.resources.trial_step import (
    ImageSizes,
    MemoryTrial,
    StepSize,
    check_memory,
    largest_batch_size,
)
from cyclegan.training.step import TrainingStep

Domains = tuple[DomainImages, DomainImages]


@dataclass(frozen=True)
class PlanBuilder:
    """Plans how the run of these settings is computed, and tries its steps."""

    settings: TrainSettings

    def plan(self, device: torch.device, *, total_steps: int, group: ProcessGroup) -> ExecutionPlan:
        optimizers = self.settings.optimizer, self.settings.optimizer_D or self.settings.optimizer
        slots = [self.settings.slot(slot.kind, domain) for slot, domain in SLOT_NAMES.values()]
        terms = [term for slot in slots for term in slot]
        terms += [self.settings.generator_of(name) for name in GENERATOR_NAMES]
        terms += [self.settings.discriminator, *self.settings.diffaugment]
        return plan_execution(
            device,
            precision=self.settings.precision,
            compile=self.settings.compile,
            deterministic=self.settings.deterministic,
            activation_checkpointing=self.settings.checkpoint_activations,
            total_steps=total_steps,
            fixed_size=StepBuilder(self.settings).has_fixed_size(),
            # A CUDA graph cannot wait for the gradients of other ranks.
            static=group.size == 1 and is_static(terms, optimizers),
        )

    def transforms(self, multiple: int = 4) -> tuple[ImageTransform, ImageTransform]:
        transform_A, transform_B = (
            ImageTransform(**self.settings.transform_options(domain, size_multiple=multiple))
            for domain in "AB"
        )
        return transform_A, transform_B

    def with_batch_size(
        self, domains: Domains, device: torch.device, group: ProcessGroup
    ) -> TrainSettings:
        """The settings with a number in place of --batch_size auto."""
        if self.settings.batch_size != "auto":
            return self.settings
        if device.type != "cuda":
            raise UserError(
                f"--batch_size auto goes by a GPU's memory, which {device} has not: give a number"
            )
        most = max(len(domain.files) for domain in domains) // group.size
        size = StepSize(1, self.settings.accumulate, self.settings.checkpoint_activations)
        images = self._largest_images(domains)
        found = largest_batch_size(self._memory_trial(device), size, images, most=most)
        # All ranks take what fits the one with the least memory.
        found = group.size * min(group.broadcast(group.gather(found)))
        return self.settings.model_copy(update={"batch_size": found})

    def check_memory(self, domains: Domains, device: torch.device, group: ProcessGroup) -> None:
        if device.type == "cuda":
            accumulate = self.settings.accumulate
            batch_size = group.per_process(self.settings.images_per_step // accumulate)
            size = StepSize(batch_size, accumulate, self.settings.checkpoint_activations)
            crops, images = "crop" in self.settings.preprocess, self._largest_images(domains)
            check_memory(self._memory_trial(device), size, images, crops=crops)

    def check_custom_parts(self, step: TrainingStep) -> None:
        crops = "crop" in self.settings.preprocess
        side = self.settings.crop_size if crops else self.settings.load_size
        check_custom_parts(
            step,
            sides={domain: side // self.settings.downscale_factor(domain) for domain in "AB"},
            options={name: self.settings.generator_of(name).option for name in GENERATOR_NAMES},
        )

    def _largest_images(self, domains: Domains) -> ImageSizes:
        sizes = {}
        for name, domain, transform in zip("AB", domains, self.transforms(), strict=True):
            sizes[name] = (transform.crop_size, transform.crop_size)
            if "crop" not in self.settings.preprocess:
                resized = [transform.resized_size(*size) for size in domain.sizes]
                sizes[name] = max(resized, key=lambda size: size[0] * size[1])
        return sizes

    def _memory_trial(self, device: torch.device) -> MemoryTrial:
        def build(size: StepSize) -> TrainingStep:
            chosen = self.settings.model_copy(
                update={
                    "batch_size": size.batch_size,
                    "accumulate": size.accumulate,
                    "checkpoint_activations": size.activation_checkpointing,
                }
            )
            plan = PlanBuilder(chosen).plan(device, total_steps=1, group=SINGLE_PROCESS)
            plan = replace(plan, compile="off", cuda_graphs=False)
            builder = StepBuilder(chosen)
            return builder.step(builder.model().to(device), plan=plan)

        # Whether steps are captured may depend on the batch size: assume that they are.
        graphs = self.plan(device, total_steps=10**9, group=SINGLE_PROCESS).cuda_graphs
        return MemoryTrial(build, device, cuda_graphs=graphs)
