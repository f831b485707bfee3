"""Measures how costs grow: python benchmarks/scaling.py --out benchmarks/results/scaling.json

Measured are the time of a step by image and batch size; start-up time, first batch and memory by
the number of files; and images per second by the number of loading processes. A plot goes beside
the JSON file. The files are hard links to a few photographs, half of them in each domain, which is
easier on the disk: they share a few inodes and pages of its cache. Cases that are expected to take
more than their share of --budget are left out and listed in `left_out`.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from common import interleave, report
from loader import photographs
from rich.console import Console
from rich.table import Table

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import check_domains, size_warning
from cyclegan.data.files.sources import DataSources, find_images
from cyclegan.data.loading.cache import cache_path, with_cache
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.loader import load_batches
from cyclegan.data.loading.sampler import StepBatchSampler
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.hardware.devices import resolve_device
from cyclegan.hardware.distributed import SINGLE_PROCESS
from cyclegan.training.build.build_plan import PlanBuilder
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.resources.execution_plan import configure_torch

CPU = torch.device("cpu")
# Shares of the budget. The rest, some seconds, is for the loading processes.
STEPS_SHARE, FILES_SHARE = 0.3, 0.65
# 10^6 files are 15,625 links to each photograph, which every common file system allows.
PHOTOGRAPHS = 64
SHARD = 1000
# Larger data sets are not decoded here: loader.py measures that.
MOST_DECODED = 1000
BATCH = 4

Row = dict[str, Any]


def main() -> int:
    options = arguments()
    device = resolve_device(options.device)
    left_out: list[str] = []
    # The files come first: their costs are measured in new processes, while this one is idle.
    with tempfile.TemporaryDirectory() as scratch:
        sources = find_images(photographs(Path(scratch) / "photographs", PHOTOGRAPHS))
        files = against_files(options, Path(scratch), sources, left_out)
        processes = against_processes(options, sources)
    sizes, batches = against_pixels(options, device, left_out)
    figures = {"sizes": sizes, "batches": batches, "files": files, "processes": processes}
    for title, rows in figures.items():
        show(title, rows)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        _plot(figures, options.out.with_suffix(".png"), base=options.base)
    # Noted because threads that spin while they wait slow down a busy machine.
    waits = os.environ.get("OMP_WAIT_POLICY", "active")
    notes = {"base": options.base, "left_out": left_out, "omp_wait_policy": waits}
    report({**figures, **notes}, device, out=options.out)
    return 0


def against_pixels(
    options: argparse.Namespace, device: torch.device, left_out: list[str]
) -> tuple[list[Row], list[Row]]:
    """Times of the classic step: rows by image size at batch 1, and rows by batch at one size."""
    cases = {(size, 1) for size in options.sizes} | {(options.base, n) for n in options.batches}
    left, per_pixel = STEPS_SHARE * options.budget, 0.0
    tasks: dict[str, Callable[[], object]] = {}
    first: dict[str, float] = {}
    for size, batch in sorted(cases, key=lambda case: (case[0] ** 2 * case[1], case)):
        pixels = batch * size**2
        if per_pixel * pixels * (options.rounds + 1) > left:
            left_out.append(f"step of {batch} x {size} px")
            continue
        step = training_step(size, batch, device, width=options.width)
        name = f"{size} {batch}"
        first |= {name: interleave({name: step}, rounds=1, device=device)[name][0]}
        per_pixel = first[name] / pixels
        left -= first[name] * (options.rounds + 1)
        tasks[name] = step
    taken = interleave(tasks, rounds=options.rounds - 1, device=device, warmup=0)

    def row(size: int, batch: int) -> Row:
        name = f"{size} {batch}"
        best = min([first[name], *taken[name]])
        return {"ms": round(1e3 * best, 1), "images_per_second": round(batch / best, 2)}

    kept = [tuple(map(int, name.split())) for name in tasks]
    sizes = [{"size": size, **row(size, 1)} for size, batch in sorted(kept) if batch == 1]
    batches = [{"batch": n, **row(size, n)} for size, n in sorted(kept) if size == options.base]
    return sizes, batches


def training_step(
    size: int, batch: int, device: torch.device, *, width: int
) -> Callable[[], object]:
    # Compiling for each shape would take most of the measured time.
    widths = {"ngf": width, "ndf": width}
    settings = _settings(crop_size=size, load_size=size, batch_size=batch, compile="off", **widths)
    plan = PlanBuilder(settings).plan(device, total_steps=1, group=SINGLE_PROCESS)
    configure_torch(plan, deterministic=False, fixed_size=True)
    torch.manual_seed(0)
    step = StepBuilder(settings).step(StepBuilder(settings).model().to(device), plan=plan)
    real_A, real_B = (torch.rand(batch, 3, size, size, device=device) * 2 - 1 for _ in "AB")
    return lambda: step(real_A, real_B)


def against_files(
    options: argparse.Namespace, scratch: Path, sources: Sequence[Path], left_out: list[str]
) -> list[Row]:
    left, per_file = FILES_SHARE * options.budget, 0.0
    rows = []
    for count in sorted(options.files):
        if per_file * count > left:
            left_out.append(f"data set of {count} files")
            continue
        began = time.perf_counter()
        root = scratch / str(count)
        make_links(root, sources, count)
        made = time.perf_counter() - began
        # Each size has its own process, since memory is measured as the peak of a process.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found = pool.submit(open_data_set, root, count).result()
        shutil.rmtree(root)
        rows.append({"files": count, "make_links_s": round(made, 2), **found})
        left -= time.perf_counter() - began
        # The start of the process is not counted.
        per_file = (made + found["check_s"] + found["cache_key_s"]) / count
    return rows


def make_links(root: Path, sources: Sequence[Path], count: int) -> None:
    """Makes root/trainA and root/trainB with `count` files in all, in folders of SHARD files."""
    for index in range(count):
        domain, place = "AB"[index % 2], index // 2
        folder = root / f"train{domain}" / f"{place // SHARD:04}"
        if place % SHARD == 0:
            folder.mkdir(parents=True)
        source, name = sources[index % len(sources)], f"{folder}/{place:07}.jpg"
        try:
            os.link(source, name)
        except OSError:
            Path(name).symlink_to(source)


def open_data_set(root: Path, count: int) -> Row:
    """Seconds of what a run does with its images before the first step, and of later batches."""
    torch.set_num_threads(1)
    # Loading processes are forked, as in a run; otherwise they would be spawned like this one.
    multiprocessing.set_start_method(None, force=True)
    imports_mb, laps, since = _memory("VmRSS"), {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal since
        now = time.perf_counter()
        laps[name], since = round(now - since, 3), now

    settings = _settings(dataroot=str(root), crop_size=128, load_size=143, cache="off")
    domains = check_domains(DataSources(**settings.data_options))
    size_warning(*domains)
    lap("check_s")
    transform_A, transform_B = (ImageTransform(**settings.transform_options(d)) for d in "AB")
    transforms = transform_A, transform_B
    for domain, transform in zip(domains, transforms, strict=True):
        cache_path(root, domain.source, domain.files, transform)
    lap("cache_key_s")
    files = domains[0].files, domains[1].files
    dataset = with_cache(UnpairedImages(files, transforms, seed=0), domains, cache="off")
    lap("cache_off_s")
    num = settings.num_threads
    steps = StepBatchSampler(dataset.epoch_length, images_per_step=BATCH)
    batches = load_batches(dataset, steps, num_workers=num, device=CPU)
    next(batches)
    lap("first_batch_s")
    _take(batches, 2 * num)
    lap("ahead")
    _take(batches, 50)
    lap("fifty")
    batches.close()
    peak_mb = _memory("VmHWM")
    if count <= MOST_DECODED:
        for name in ("cache_written_s", "cache_found_s"):
            lap("between")
            with_cache(dataset, domains, cache="disk", cache_dir=root / "cache")
            lap(name)
    row: Row = {name: seconds for name, seconds in laps.items() if name.endswith("_s")}
    rate = round(50 / laps["fifty"], 1)
    return {**row, "batches_per_second": rate, "imports_mb": imports_mb, "peak_mb": peak_mb}


def against_processes(options: argparse.Namespace, sources: Sequence[Path]) -> list[Row]:
    """Images per second of both domains at 256 px, while no step is computed."""
    transform = ImageTransform("resize_and_crop", 286, 256, True)
    dataset = UnpairedImages((sources, sources), (transform, transform), seed=0)
    steps = StepBatchSampler(dataset.epoch_length, images_per_step=BATCH)
    best = dict.fromkeys(options.processes, float("inf"))
    for _ in range(options.rounds):
        for num in best:
            batches = load_batches(dataset, steps, num_workers=num, device=CPU)
            _take(batches, 1 + 2 * num)
            began = time.perf_counter()
            _take(batches, options.batches_timed)
            best[num] = min(best[num], time.perf_counter() - began)
            batches.close()
    count = 2 * BATCH * options.batches_timed
    return [{"processes": n, "images_per_second": round(count / best[n])} for n in best]


def _settings(**values: object) -> TrainSettings:
    return check(TrainSettings, {"dataroot": "none", "name": "none", **values})


def _take(batches: Iterator[object], count: int) -> None:
    """Skips batches: the first ones may have been loaded ahead."""
    deque(islice(batches, count), maxlen=0)


def _memory(field: str) -> int | None:
    """Megabytes of this process as Linux counts them; getrusage includes the parent's peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return round(int(line.split()[1]) * 1024 / 1e6)


def _plot(figures: dict[str, list[Row]], path: Path, *, base: int) -> None:
    try:
        from scaling_plot import draw
    except ModuleNotFoundError as error:
        sys.stderr.write(f"no plot: {error.name} is not installed (uv sync --group bench)\n")
    else:
        draw(figures, path, base=base)


def show(title: str, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*(name.replace("_", " ") for name in names), title=title)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in names))
    Console(width=150).print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[32, 64, 128, 256], help="sides at batch 1")
    add("--base", type=int, default=64, help="side for the batches")
    add("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="images of a domain a step")
    add("--files", type=int, nargs="+", default=[10**n for n in range(2, 7)], help="files in all")
    add("--processes", type=int, nargs="+", default=[0, 1, 2, 4], help="loading processes")
    add("--width", type=int, default=64, help="channels of the first layers")
    add("--rounds", type=int, default=3, help="turns; the fastest counts")
    add("--budget", type=float, default=300.0, help="seconds that all of it may take")
    add("--device", default="auto", help="where steps are computed")
    add("--quick", action="store_true", help="only show that it runs")
    add("--out", type=Path, help="a JSON file for the figures; the plot goes beside it")
    options = parser.parse_args()
    options.batches_timed = 5 if options.quick else 30
    if options.quick:
        options.sizes, options.base, options.batches, options.width = [32, 64], 32, [1, 2], 8
        options.files, options.processes, options.rounds = [100], [0, 1], 1
    return options


if __name__ == "__main__":
    sys.exit(main())
