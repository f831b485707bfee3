"""One classic training step, written plainly, beside ours: python benchmarks/step.py --size 256

Both compute the same mathematics, which is asserted in float64 before anything is timed. They take
turns in one process; then each of our savings is switched off by itself.
"""

import argparse
import copy
import dataclasses
import random
import statistics
from collections.abc import Callable
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
from cyclegan.networks.cpu.row_convolution import NarrowConv
from cyclegan.networks.cpu.winograd import Conv3x3
from cyclegan.networks.execution import PLAIN, Speed
from cyclegan.training.algorithm.model import build_model
from cyclegan.training.resources.execution_plan import plan, prepare_torch
from cyclegan.training.step import Stepper

Step = Callable[[], object]


def main() -> None:
    options = _options()
    device = resolve_device(options.device)
    settings = _settings(options)
    # As in a run that is long enough for anything to pay.
    speed = plan(settings, device, total_steps=10**6)
    assert_equal_mathematics(device)
    prepare_torch(settings, speed)

    images = _images(options, device)
    variants = {"plain": _plain(images, device), "ours": _ours(settings, speed, images)}
    names = {"ours": "everything on"}
    if options.ablation:
        for name, (changed, ours) in _ablation(speed, device).items():
            variants[name] = _ours(settings, changed, images, ours=ours)
            names[name] = name
    # The first steps compile, choose kernels and record.
    warmup = 5 if speed.graph else 1
    seconds = interleave(variants, rounds=options.rounds, device=device, warmup=warmup)

    flops = _flops(variants["plain"])
    peak = _peak(device, half=speed.precision in ("bf16", "fp16"))
    figures: dict[str, Any] = {
        "ratio": round(ratio(seconds, "plain", "ours"), 3),
        "size": options.size,
        "batch": options.batch,
        "speed": dataclasses.asdict(speed),
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
        print(
            f"{names.get(name, name):28}{row['ms']:10.1f}{row['ratio']:8.2f}"
            f"{row['images_per_second']:10.1f}{row['tflops']:9.3f}{row['share_of_peak']:9.0%}"
            f"{row['launches']:10}{row['peak_gb'] or float('nan'):7.2f}",
            flush=True,
        )
    report(figures, device, out=options.out)


def assert_equal_mathematics(device: torch.device) -> None:
    """Two steps at 32 px and batch 2 in float64: the same losses, and the same weights."""
    options = argparse.Namespace(size=32, batch=2, precision="fp32", compile="off", seed=0)
    torch.set_default_dtype(torch.float64)
    try:
        settings = _settings(options)
        torch.manual_seed(0)
        plain = PlainStep()
        stepper = Stepper(build_model(settings).to(device), settings, speed=Speed(fused=True))
        _share_weights(plain, stepper, device)
        for seed in range(2):
            options.seed = seed
            images = _images(options, device)
            random.seed(0)
            theirs, ours = plain.step(*images), stepper.step(*images)
            for name, value in theirs.items():
                torch.testing.assert_close(ours[name], value.detach(), rtol=1e-9, atol=1e-12)
        for name, network in plain.networks().items():
            for mine, its in zip(
                _network(stepper, name).parameters(), network.parameters(), strict=True
            ):
                # Biases before a norm have no gradient but rounding, of which Adam makes steps.
                if mine.ndim > 1:
                    torch.testing.assert_close(mine, its, rtol=1e-7, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def _settings(options: argparse.Namespace) -> TrainSettings:
    values = {
        "dataroot": "none",
        "name": "none",
        "crop_size": options.size,
        "load_size": options.size,
        "batch_size": options.batch,
        "precision": options.precision,
        "compile": options.compile,
    }
    return check(TrainSettings, values)


def _images(options: argparse.Namespace, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(getattr(options, "seed", 0))
    shape = (options.batch, 3, options.size, options.size)
    real_A, real_B = (torch.rand(shape, generator=generator) * 2 - 1 for _ in "AB")
    return real_A.to(device), real_B.to(device)


def _plain(images: tuple[Tensor, Tensor], device: torch.device) -> Step:
    torch.manual_seed(0)
    plain = PlainStep()
    for network in plain.networks().values():
        network.to(device)
    plain.prepare()
    return lambda: plain.step(*images)


def _ours(
    settings: TrainSettings, speed: Speed, images: tuple[Tensor, Tensor], *, ours: bool = True
) -> Step:
    torch.manual_seed(0)
    # Tensors cannot be told from another's: every variant has networks of its own.
    model = build_model(settings).to(images[0].device)
    for module in model.modules():
        if isinstance(module, Conv3x3):
            module.winograd = ours
        if isinstance(module, NarrowConv):
            module.by_rows = ours
    stepper = Stepper(model, settings, speed=speed)
    return lambda: stepper.step(*images)


def _ablation(speed: Speed, device: torch.device) -> dict[str, tuple[Speed, bool]]:
    """Each saving off by itself, where it is on."""
    off = {
        "one batch after another": {"joined": False},
        "an update of many kernels": {"fused": False},
        "not recorded": {"graph": False},
        "not compiled": {"compile": "off", "graph": speed.graph},
        "channels first": {"channels_last": False},
        "float32": {"precision": "fp32"},
    }
    variants = {}
    for name, change in off.items():
        changed = dataclasses.replace(speed, **change)
        if changed != speed:
            variants[name] = (changed, True)
    if device.type == "cpu" and speed.precision == "fp32":
        variants["torch's convolutions"] = (speed, False)
    variants["all of them off"] = (dataclasses.replace(PLAIN, joined=False), False)
    return variants


def _share_weights(plain: PlainStep, stepper: Stepper, device: torch.device) -> None:
    for name, network in plain.networks().items():
        network.load_state_dict(copy.deepcopy(_network(stepper, name).state_dict()))
        network.to(device)
    plain.prepare()


def _network(stepper: Stepper, name: str) -> nn.Module:
    model = stepper.model
    return model.generators[name] if name.startswith("G") else model.discriminators[name]


def _flops(step: Step) -> float:
    """Multiplications and additions of one step, the way back included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def _peak(device: torch.device, *, half: bool) -> float:
    """The most that this machine does in a second: a large matrix product, and on a CPU also the
    residual blocks' convolution.
    """
    dtype = torch.bfloat16 if half else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    tasks = {"product": lambda: a @ b}
    best = interleave(tasks, rounds=10, device=device, warmup=3)["product"]
    return 2 * side**3 / min(best)


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
    """Launches on CUDA (a replayed graph is one); calls of operators elsewhere."""
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
    """Gigabytes of GPU memory in use at once; all variants' networks are among them. On a CPU
    nobody counts.
    """
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
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-ablation", dest="ablation", action="store_false")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
