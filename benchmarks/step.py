"""Times our training step against a plain classic one: python benchmarks/step.py --size 256

Both compute the same mathematics, which is asserted in float64 before anything is timed. They take
turns in one process, as do variants of our step with one optimization switched off.
"""

import argparse
import copy
import dataclasses
import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from common import interleave, ratio, report, synchronize
from plain_step import PlainStep
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.hardware.devices import resolve_device
from cyclegan.hardware.distributed import SINGLE_PROCESS
from cyclegan.networks.cpu.row_convolution import RowConv2d
from cyclegan.networks.cpu.winograd import WinogradConv2d
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan
from cyclegan.training.build.build_plan import PlanBuilder
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.resources.execution_plan import configure_torch
from cyclegan.training.step import TrainingStep

Step = Callable[[], object]
Batches = tuple[Tensor, Tensor]


def main() -> None:
    options = _options()
    device = resolve_device(options.device)
    settings = _settings(options)
    # The plan of a run that is long enough for every optimization to pay.
    plan = PlanBuilder(settings).plan(device, total_steps=10**6, group=SINGLE_PROCESS)
    assert_equal_mathematics(device, width=options.width)
    configure_torch(plan, deterministic=False, fixed_size=True)

    images = _images(options.size, options.batch, device)
    variants = {
        "plain": _plain(images, device, width=options.width),
        "ours": _ours(settings, plan, images),
    }
    if options.ablation:
        for name, (changed, kernels) in _ablation(plan, device).items():
            variants[name] = _ours(settings, changed, images, kernels=kernels)
    # The first steps compile, choose kernels and capture graphs.
    warmup = 5 if plan.cuda_graphs else 1
    seconds = interleave(variants, rounds=options.rounds, device=device, warmup=warmup)

    flops = _flops(variants["plain"])
    half = plan.precision in ("bf16", "fp16")
    peak = _peak_flops(device, half=half, rounds=2 * options.rounds)
    figures: dict[str, Any] = {
        "ratio": round(ratio(seconds, "plain", "ours"), 3),
        "size": options.size,
        "batch": options.batch,
        "speed": dataclasses.asdict(plan),
        "gflop_per_step": round(flops / 1e9),
        "peak_tflops": round(peak / 1e12, 2),
        "steps": {},
    }
    print(f"{'':28}{'ms/step':>10}{'ratio':>8}{'images/s':>10}{'TFLOP/s':>9}{'of peak':>9}", end="")
    print(f"{'launches':>10}{'GB':>7}")
    for name, step in variants.items():
        row = _row(step, statistics.median(seconds[name]), options.batch, flops, peak, device)
        row["ratio"] = round(ratio(seconds, "plain", name), 3)
        figures["steps"][name] = row
        title = "everything on" if name == "ours" else name
        print(
            f"{title:28}{row['ms']:10.1f}{row['ratio']:8.2f}"
            f"{row['images_per_second']:10.1f}{row['tflops']:9.3f}{row['share_of_peak']:9.0%}"
            f"{row['launches']:10}{row['peak_gb'] or float('nan'):7.2f}",
            flush=True,
        )
    report(figures, device, out=options.out)


def assert_equal_mathematics(device: torch.device, *, width: int) -> None:
    """Two steps at 32 px and batch 2 in float64 have the same losses and give the same weights."""
    values = {"crop_size": 32, "load_size": 32, "batch_size": 2, "ngf": width, "ndf": width}
    torch.set_default_dtype(torch.float64)
    try:
        settings = check(TrainSettings, {**NOWHERE, **values, "precision": "fp32"})
        torch.manual_seed(0)
        plain = PlainStep(width=width)
        plan = ExecutionPlan(fused_optimizer=True)
        step = StepBuilder(settings).step(StepBuilder(settings).model().to(device), plan=plan)
        networks = _classic_networks(step)
        for name, network in plain.networks().items():
            network.load_state_dict(copy.deepcopy(networks[name].state_dict()))
            network.to(device)
        plain.prepare()
        for seed in range(2):
            images = _images(32, 2, device, seed=seed)
            random.seed(0)
            expected, losses = plain.step(*images), step(*images)
            for name, value in expected.items():
                torch.testing.assert_close(losses[name], value.detach(), rtol=1e-9, atol=1e-12)
        for name, network in plain.networks().items():
            pairs = zip(networks[name].parameters(), network.parameters(), strict=True)
            for ours, theirs in pairs:
                # The gradient of a bias before a norm is rounding error, which Adam amplifies.
                if ours.ndim > 1:
                    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


# Settings need a data folder and a name, which nothing here reads.
NOWHERE: Mapping[str, Any] = {"dataroot": "none", "name": "none"}


def _settings(options: argparse.Namespace) -> TrainSettings:
    values = {
        "crop_size": options.size,
        "load_size": options.size,
        "batch_size": options.batch,
        "ngf": options.width,
        "ndf": options.width,
        "precision": options.precision,
        "compile": options.compile,
    }
    return check(TrainSettings, {**NOWHERE, **values})


def _images(size: int, batch: int, device: torch.device, *, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, size, size)
    real_A, real_B = (torch.rand(shape, generator=generator) * 2 - 1 for _ in "AB")
    return real_A.to(device), real_B.to(device)


def _plain(images: Batches, device: torch.device, *, width: int) -> Step:
    torch.manual_seed(0)
    plain = PlainStep(width=width)
    for network in plain.networks().values():
        network.to(device)
    plain.prepare()
    return lambda: plain.step(*images)


def _ours(
    settings: TrainSettings, plan: ExecutionPlan, images: Batches, *, kernels: bool = True
) -> Step:
    """kernels: whether our convolutions for the CPU are used."""
    torch.manual_seed(0)
    # Every variant has its own networks: a plan changes them.
    model = StepBuilder(settings).model().to(images[0].device)
    for module in model.modules():
        if isinstance(module, WinogradConv2d):
            module.winograd = kernels
        if isinstance(module, RowConv2d):
            module.by_rows = kernels
    step = StepBuilder(settings).step(model, plan=plan)
    return lambda: step(*images)


def _ablation(plan: ExecutionPlan, device: torch.device) -> dict[str, tuple[ExecutionPlan, bool]]:
    """Each optimization of the plan switched off by itself, then all of them."""
    off = {
        "one batch after another": {"batch_passes": False},
        "an update of many kernels": {"fused_optimizer": False},
        "not recorded": {"cuda_graphs": False},
        "not compiled": {"compile": "off", "cuda_graphs": plan.cuda_graphs},
        "channels first": {"channels_last": False},
        "float32": {"precision": "fp32"},
    }
    variants = {}
    for name, change in off.items():
        changed = dataclasses.replace(plan, **change)
        if changed != plan:
            variants[name] = (changed, True)
    if device.type == "cpu" and plan.precision == "fp32":
        variants["torch's convolutions"] = (plan, False)
    variants["all of them off"] = (dataclasses.replace(EAGER_FP32, batch_passes=False), False)
    return variants


def _classic_networks(step: TrainingStep) -> dict[str, nn.Module]:
    return {**dict(step.model.generators.items()), **dict(step.model.discriminators.items())}


def _flops(step: Step) -> float:
    """Multiplications and additions of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def _peak_flops(device: torch.device, *, half: bool, rounds: int) -> float:
    """Operations per second of a large matrix product on this machine."""
    dtype = torch.bfloat16 if half else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    seconds = interleave({"product": lambda: a @ b}, rounds=rounds, device=device)["product"]
    return 2 * side**3 / min(seconds)


def _row(
    step: Step, seconds: float, batch: int, flops: float, peak: float, device: torch.device
) -> dict[str, Any]:
    return {
        "ms": round(1e3 * seconds, 2),
        "images_per_second": round(batch / seconds, 2),
        "tflops": round(flops / seconds / 1e12, 3),
        "share_of_peak": round(flops / seconds / peak, 3),
        "launches": _launches(step, device),
        "peak_gb": _peak_memory(step, device),
    }


def _launches(step: Step, device: torch.device) -> int:
    """Kernel launches on CUDA, where a replayed graph is one; operator calls elsewhere."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        step()
        synchronize(device)
    names = [event.name for event in profile.events()]
    if device.type == "cuda":
        return sum(name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch")) for name in names)
    return sum(name.startswith("aten::") for name in names)


def _peak_memory(step: Step, device: torch.device) -> float | None:
    """Peak GPU memory in gigabytes, including the networks of all variants; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    synchronize(device)
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-ablation", dest="ablation", action="store_false")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
