"""Plans how a run is computed, and tries steps for its memory, its batch size and its parts."""

from dataclasses import replace

import torch

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import DomainImages
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.hardware.distributed import SINGLE_PROCESS, ProcessGroup
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.networks.factory import GENERATOR_NAMES
from cyclegan.training.algorithm.loss_slots import SLOT_NAMES
from cyclegan.training.build.build_step import build_model, build_step, has_fixed_size
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


def build_plan(
    settings: TrainSettings, device: torch.device, *, total_steps: int, group: ProcessGroup
) -> ExecutionPlan:
    optimizers = settings.optimizer, settings.optimizer_D or settings.optimizer
    terms = [term for slot, d in SLOT_NAMES.values() for term in settings.slot(slot.kind, d)]
    terms += [settings.generator_of(name) for name in GENERATOR_NAMES]
    terms += [settings.discriminator, *settings.diffaugment]
    return plan_execution(
        device,
        precision=settings.precision,
        compile=settings.compile,
        deterministic=settings.deterministic,
        activation_checkpointing=settings.checkpoint_activations,
        total_steps=total_steps,
        fixed_size=has_fixed_size(settings),
        # A CUDA graph cannot wait for the gradients of other ranks.
        static=group.size == 1 and is_static(terms, optimizers),
    )


def build_transforms(
    settings: TrainSettings, multiple: int = 4
) -> tuple[ImageTransform, ImageTransform]:
    transform_A, transform_B = (
        ImageTransform(**settings.transform_options(domain, size_multiple=multiple))
        for domain in "AB"
    )
    return transform_A, transform_B


def with_batch_size(
    settings: TrainSettings,
    domains: Domains,
    device: torch.device,
    group: ProcessGroup,
) -> TrainSettings:
    """The settings with a number in place of --batch_size auto."""
    if settings.batch_size != "auto":
        return settings
    if device.type != "cuda":
        raise UserError(
            f"--batch_size auto goes by a GPU's memory, which {device} has not: give a number"
        )
    most = max(len(domain.files) for domain in domains) // group.size
    size = StepSize(1, settings.accumulate, settings.checkpoint_activations)
    images = _largest_images(settings, domains)
    found = largest_batch_size(_memory_trial(settings, device), size, images, most=most)
    # All ranks take what fits the one with the least memory.
    found = group.size * min(group.broadcast(group.gather(found)))
    return settings.model_copy(update={"batch_size": found})


def check_run_memory(
    settings: TrainSettings,
    domains: Domains,
    device: torch.device,
    group: ProcessGroup,
) -> None:
    if device.type == "cuda":
        batch_size = group.per_process(settings.images_per_step // settings.accumulate)
        size = StepSize(batch_size, settings.accumulate, settings.checkpoint_activations)
        crops, images = "crop" in settings.preprocess, _largest_images(settings, domains)
        check_memory(_memory_trial(settings, device), size, images, crops=crops)


def check_run_parts(step: TrainingStep, settings: TrainSettings) -> None:
    side = settings.crop_size if "crop" in settings.preprocess else settings.load_size
    check_custom_parts(
        step,
        sides={domain: side // settings.downscale_factor(domain) for domain in "AB"},
        options={name: settings.generator_of(name).option for name in GENERATOR_NAMES},
    )


def _largest_images(settings: TrainSettings, domains: Domains) -> ImageSizes:
    sizes = {}
    for name, domain, transform in zip("AB", domains, build_transforms(settings), strict=True):
        sizes[name] = (transform.crop_size, transform.crop_size)
        if "crop" not in settings.preprocess:
            resized = [transform.resized_size(*size) for size in domain.sizes]
            sizes[name] = max(resized, key=lambda size: size[0] * size[1])
    return sizes


def _memory_trial(settings: TrainSettings, device: torch.device) -> MemoryTrial:
    def build(size: StepSize) -> TrainingStep:
        chosen = settings.model_copy(
            update={
                "batch_size": size.batch_size,
                "accumulate": size.accumulate,
                "checkpoint_activations": size.activation_checkpointing,
            }
        )
        plan = build_plan(chosen, device, total_steps=1, group=SINGLE_PROCESS)
        plan = replace(plan, compile="off", cuda_graphs=False)
        return build_step(build_model(chosen).to(device), chosen, plan=plan)

    # Whether steps are captured may depend on the batch size: assume that they are.
    graphs = build_plan(settings, device, total_steps=10**9, group=SINGLE_PROCESS).cuda_graphs
    return MemoryTrial(build, device, cuda_graphs=graphs)
