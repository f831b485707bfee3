"""What `evaluate` measures, as a table for readers and as figures for programs."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from cyclegan.config.command_line import run_settings
from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import find_images
from cyclegan.evaluation.command import EvaluateSettings
from cyclegan.evaluation.compare import compare
from cyclegan.evaluation.super_resolution import (
    Enlarge,
    Measured,
    Score,
    SuperResolution,
    through,
)
from cyclegan.networks.generators.bicubic import enlarged
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.translate.translator import Translator


def compare_test_images(settings: EvaluateSettings) -> int:
    """How near the run's translations of testA are to testB; raises UserError without both."""
    run = run_settings(settings.run_dir)
    found = compare(run, _load(settings))
    if found is None:
        where = run.dataroot or f"run {settings.name}"
        raise UserError(f"{where} has no images in testA and testB: give --hr FOLDER")
    console = _console()
    for line in found.describe():
        console.print(line, markup=False)
    _write(settings.json_file, found.as_dict())
    return 0


def measure_photographs(settings: EvaluateSettings, folder: Path) -> int:
    """A table of every photograph in the folder; 1 where one could not be measured."""
    if not folder.is_dir():
        raise UserError(f"--hr {folder} is not a folder: check the path")
    paths = find_images(folder)
    if not paths:
        raise UserError(f"--hr {folder} holds no images")
    translator = None if settings.method else _load(settings)
    scale = _scale(settings, translator)
    methods: dict[str, Enlarge] = {"bicubic": partial(enlarged, scale=scale)}
    if translator is not None:
        title = _title(settings)
        title = f"run {title}" if title in methods else title
        methods[title] = through(translator, scale, own_scale=translator.scale)
    test = SuperResolution(methods, scale=scale)
    console = _console()
    hidden = not console.is_terminal
    shown = track(
        test.measure(paths),
        "measuring",
        len(paths),
        console=console,
        transient=True,
        disable=hidden,
    )
    found = {result.path.relative_to(folder).as_posix(): result for result in shown}
    if any(result.problem is None for result in found.values()):
        means, distances = test.mean(), test.distances()
        _show(console, means, distances, found, scale=scale)
        _write(settings.json_file, _figures(means, distances, found, scale=scale))
    for result in found.values():
        if result.problem is not None:
            sys.stderr.write(f"not measured: {result.path} ({result.problem})\n")
    return 1 if any(result.problem for result in found.values()) else 0


def _load(settings: EvaluateSettings) -> Translator:
    return Translator.load(
        settings.weights or settings.run_dir,
        epoch=settings.epoch,
        device=settings.device,
        trust_imports=settings.trust_imports,
    )


def _scale(settings: EvaluateSettings, translator: Translator | None) -> int:
    """What was asked for, or what the generator or its run tells."""
    own = translator.scale if translator else 1
    run = run_settings(settings.run_dir).scale if settings.name else 1
    scale = settings.scale or max(own, run)
    if scale == 1:
        raise UserError(f"{_title(settings)} does not tell how many times: give --scale 2, 3 or 4")
    if translator and translator.shrink > 1:
        raise UserError(f"{_title(settings)} makes images smaller: give the generator A to B")
    if own not in (1, scale):
        raise UserError(
            f"--scale {scale}: {_title(settings)} enlarges {own} times; leave --scale out"
        )
    return scale


def _title(settings: EvaluateSettings) -> str:
    return settings.name or (settings.weights.stem if settings.weights else str(settings.method))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _show(
    console: Console,
    means: Mapping[str, Score],
    distances: Mapping[str, float],
    found: Mapping[str, Measured],
    *,
    scale: int,
) -> None:
    """A row for each image, one of means, and the distance of the whole set."""
    names = list(means)
    table = Table(f"x{scale}")
    for name in names:
        table.add_column(Text(f"{name}: PSNR, SSIM"), justify="right")
    for path, result in found.items():
        if result.problem is None:
            table.add_row(Text(path), *(_cell(result.scores[name]) for name in names))
    table.add_section()
    table.add_row("mean", *(_cell(means[name]) for name in names))
    table.add_row("SWD (0: as real)", *(f"{distances[name]:.1f}" for name in names))
    console.print(table)


def _cell(score: Score) -> str:
    return f"{score.psnr:.2f} dB  {score.ssim:.4f}"


def _figures(
    means: Mapping[str, Score],
    distances: Mapping[str, float],
    found: Mapping[str, Measured],
    *,
    scale: int,
) -> dict[str, Any]:
    return {
        "scale": scale,
        "mean": {name: {**asdict(score), "swd": distances[name]} for name, score in means.items()},
        "images": {
            path: {name: asdict(score) for name, score in result.scores.items()}
            for path, result in found.items()
            if result.problem is None
        },
    }


def _write(path: Path | None, figures: Mapping[str, Any]) -> None:
    """As JSON, which knows no infinity: that becomes null."""
    if path is not None:
        text = json.dumps(_finite(figures), indent=2) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.encode()))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
