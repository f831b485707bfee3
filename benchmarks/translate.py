"""Times the translation of a folder against a plain classic loop: python benchmarks/translate.py

The generator is the classic ResNet-9 with random weights; the images are PNG files of soft shapes
and grain. Both loops take turns in one process, with reading and writing, and their outputs are
compared.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleave, ratio, report
from PIL import Image
from plain_step import Generator
from rich.console import Console
from rich.table import Table
from torchvision import transforms

from cyclegan.config.options import TranslateSettings, check
from cyclegan.hardware.devices import resolve_device
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.layers import initialize
from cyclegan.runs import checkpoints
from cyclegan.translate.batching import BatchPlanner
from cyclegan.translate.image_folders import find_jobs, translate_files
from cyclegan.translate.translator import Translator


class PlainTranslation:
    """Reads, translates and writes one image after the other, in float32."""

    def __init__(self, weights: Path, source: Path, output: Path, device: torch.device) -> None:
        self.source, self.output, self.device = source, output, device
        self.network = Generator()
        self.network.load_state_dict(torch.load(weights, map_location="cpu"))
        self.network.to(device).eval()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        )
        self.seconds = dict.fromkeys(("read", "compute", "write"), 0.0)

    def __call__(self) -> None:
        self.output.mkdir(exist_ok=True)
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        for path in sorted(self.source.iterdir()):
            with self._timed("read"):
                real = self.transform(Image.open(path).convert("RGB")).unsqueeze(0)
            with self._timed("compute"), torch.no_grad():
                fake = self.network(real.to(self.device))[0].cpu().float().numpy()
            with self._timed("write"):
                levels = (np.transpose(fake, (1, 2, 0)) + 1) / 2.0 * 255.0
                # The classic loop truncates; rounded pixels can be compared with ours.
                Image.fromarray(levels.round().astype(np.uint8)).save(self.output / path.name)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - began


class OurTranslation:
    """The work of test.py after its options are read and the weights are loaded."""

    def __init__(self, weights: Path, source: Path, output: Path, planner: BatchPlanner) -> None:
        self.source, self.output, self.planner = source, output, planner
        device = str(planner.device)
        self.translator = Translator.load(weights, device=device, plan=planner.plan)
        self.batch_sizes: dict[tuple[int, int], int] = {}
        self.seconds = {"compute": 0.0}

    def __call__(self) -> None:
        self.seconds["compute"] = 0.0
        results = translate_files(
            self._translate,
            find_jobs(self.source, self.output),
            batch_size=self._batch_sizes,
            num_threads=TranslateSettings().num_threads,
        )
        problems = [result.problem for result in results if result.problem]
        assert not problems, problems

    def _batch_sizes(self, counts: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
        # Only once, as the networks compiled in the first round serve the next ones.
        self.batch_sizes = self.batch_sizes or self.planner.batch_sizes(self.translator, counts)
        return self.batch_sizes

    def _translate(self, images: list[Image.Image]) -> list[Image.Image]:
        began = time.perf_counter()
        fakes = self.translator.batch(images)
        self.seconds["compute"] += time.perf_counter() - began
        return fakes


def main() -> None:
    options = _options()
    names = ("device", "precision", "compile", "batch_size")
    settings = check(TranslateSettings, {name: getattr(options, name) for name in names})
    planner = BatchPlanner(
        resolve_device(settings.device),
        precision=settings.precision,
        compile=settings.compile,
        batch_size=settings.batch_size,
    )
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        weights = _make(here, size=options.size, images=options.images)
        plain = PlainTranslation(weights, here / "in", here / "plain", planner.device)
        planner.prepare_torch()
        ours = OurTranslation(weights, here / "in", here / "ours", planner)
        tasks: dict[str, Callable[[], None]] = {"plain": plain, "ours": ours}
        seconds = interleave(tasks, rounds=options.rounds, device=planner.device)
        figures = _figures(options, plain, ours, seconds)
        figures["difference_in_levels"] = _compare(plain.output, ours.output, half=planner.is_half)
    _show(figures)
    report(figures, planner.device, out=options.out)


def _figures(
    options: argparse.Namespace,
    plain: PlainTranslation,
    ours: OurTranslation,
    seconds: dict[str, list[float]],
) -> dict[str, Any]:
    whole = {name: sum(rounds[-1:]) for name, rounds in seconds.items()}
    compiled = ours.translator.compiled
    return {
        "ratio": round(ratio(seconds, "plain", "ours"), 3),
        "size": options.size,
        "images": options.images,
        "precision": ours.planner.plan.precision,
        "compiled": bool(compiled and compiled.sizes),
        "images_at_once": max(ours.batch_sizes.values()),
        "plain": {
            "images_per_s": round(options.images / min(seconds["plain"]), 2),
            **{name: round(part / whole["plain"], 3) for name, part in plain.seconds.items()},
        },
        "ours": {
            "images_per_s": round(options.images / min(seconds["ours"]), 2),
            "compute": round(ours.seconds["compute"] / whole["ours"], 3),
        },
        "seconds": {name: [round(s, 4) for s in rounds] for name, rounds in seconds.items()},
    }


def _compare(plain: Path, ours: Path, *, half: bool) -> dict[str, float]:
    """Mean and largest difference in 8-bit values; rounding may differ by one."""
    pairs = [
        (np.asarray(Image.open(p)), np.asarray(Image.open(ours / p.name)))
        for p in sorted(plain.iterdir())
    ]
    apart = np.stack([abs(a.astype(int) - b.astype(int)) for a, b in pairs])
    assert apart.mean() < (2 if half else 0.01), f"{apart.mean()} levels apart"
    assert half or apart.max() <= 2, f"up to {apart.max()} levels apart"
    return {"mean": round(float(apart.mean()), 5), "max": int(apart.max())}


def _make(folder: Path, *, size: int, images: int) -> Path:
    """Makes the generator's weights, whose path is returned, and a folder `in` of images."""
    torch.manual_seed(0)
    network = ResnetGenerator(64, blocks=9)
    initialize(network)
    checkpoints.save_weights(folder, "latest", {"G_AB": network})
    (folder / "in").mkdir()
    for index in range(images):
        random = np.random.default_rng(index)
        shapes = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((size, size), Image.Resampling.BICUBIC), dtype=float)
        grainy = np.clip(soft + random.normal(0, 3, soft.shape), 0, 255)
        Image.fromarray(grainy.astype(np.uint8)).save(folder / "in" / f"{index:05}.png")
    return folder / "latest_net_G_A.pth"


def _show(figures: dict[str, Any]) -> None:
    table = Table("", "images/s", "reading", "computing", "writing")
    for name in ("plain", "ours"):
        row = figures[name]
        shares = [
            f"{row[part]:.0%}" if part in row else "beside it"
            for part in ("read", "compute", "write")
        ]
        table.add_row(name, f"{row['images_per_s']:.2f}", *shares)
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_size", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
