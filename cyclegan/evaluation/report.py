"""Results of `evaluate`: a table or lines for readers, JSON for programs."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from cyclegan.config.errors import UserError
from cyclegan.data.files.sources import find_images
from cyclegan.evaluation.compare import TranslationMetrics
from cyclegan.evaluation.super_resolution import (
    Score,
    SuperResolution,
    Upscaler,
    as_upscaler,
)
from cyclegan.networks.generators.bicubic import upscale
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.translate.translator import Translator


def find_photographs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"--hr {folder} is not a folder: check the path")
    paths = find_images(folder)
    if not paths:
        raise UserError(f"--hr {folder} holds no images")
    return paths


def choose_scale(
    scale: int | None, translator: Translator | None, *, run_scale: int, title: str
) -> int:
    """--scale, or the scale of the generator or of its run; raises UserError if they disagree."""
    own = translator.scale if translator else 1
    chosen = scale or max(own, run_scale)
    if chosen == 1:
        raise UserError(f"{title} does not tell how many times: give --scale 2, 3 or 4")
    if translator and translator.shrink > 1:
        raise UserError(f"{title} makes images smaller: give the generator A to B")
    if own not in (1, chosen):
        raise UserError(f"--scale {chosen}: {title} enlarges {own} times; leave --scale out")
    return chosen


def report_test_images(metrics: TranslationMetrics, *, json_file: Path | None) -> None:
    for line in metrics.describe():
        _console().print(line, markup=False)
    _write_json(json_file, metrics.as_dict())


def measure_photographs(
    folder: Path,
    paths: list[Path],
    translator: Translator | None,
    *,
    title: str,
    scale: int,
    json_file: Path | None,
) -> int:
    """Measures bicubic interpolation and the generator. Returns the exit status: 1 if an image
    could not be measured.
    """
    upscalers: dict[str, Upscaler] = {"bicubic": partial(upscale, scale=scale)}
    if translator is not None:
        title = f"run {title}" if title in upscalers else title
        upscalers[title] = as_upscaler(translator, scale, own_scale=translator.scale)
    results, console = SuperResolution(upscalers, scale=scale), _console()
    hidden = not console.is_terminal
    for path in track(paths, "measuring", console=console, transient=True, disable=hidden):
        results.measure(path)
    if results.scores:
        means, distances = results.mean(), results.distances()
        images = {p.relative_to(folder).as_posix(): s for p, s in results.scores.items()}
        console.print(_table(means, distances, images, scale=scale))
        figures = {name: {**asdict(s), "swd": distances[name]} for name, s in means.items()}
        _write_json(json_file, {"scale": scale, "mean": figures, "images": images})
    for path, problem in results.problems.items():
        sys.stderr.write(f"not measured: {path} ({problem})\n")
    return 1 if results.problems else 0


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _table(
    means: Mapping[str, Score],
    distances: Mapping[str, float],
    images: Mapping[str, Mapping[str, Score]],
    *,
    scale: int,
) -> Table:
    """A row for each image, one of means, and one of the distances of the whole set."""
    table = Table(f"x{scale}")
    for name in means:
        table.add_column(Text(f"{name}: PSNR, SSIM"), justify="right")
    for path, scores in images.items():
        table.add_row(Text(path), *(_cell(scores[name]) for name in means))
    table.add_section()
    table.add_row("mean", *map(_cell, means.values()))
    table.add_row("SWD (0: as real)", *(f"{distances[name]:.1f}" for name in means))
    return table


def _cell(score: Score) -> str:
    return f"{score.psnr:.2f} dB  {score.ssim:.4f}"


def _write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes null for infinite numbers, which JSON does not have."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, TypeAdapter(Any).dump_json(figures, indent=2) + b"\n")
