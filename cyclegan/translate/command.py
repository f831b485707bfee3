"""What test.py does: translates an image, a folder, or the run's own test images."""

import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from cyclegan.config.errors import UserError
from cyclegan.config.logs import log_to
from cyclegan.config.options import Direction, TranslateSettings
from cyclegan.config.yaml_files import run_settings
from cyclegan.data.files.sources import DataSources, find_images, unique_stems
from cyclegan.hardware.devices import rank_from_env, resolve_device
from cyclegan.translate.batching import BatchPlanner
from cyclegan.translate.image_folders import (
    TranslationJob,
    find_jobs,
    refuse_outside,
    translate_files,
    unfinished,
)
from cyclegan.translate.translator import Translator

logger = logging.getLogger(__name__)


class TranslateCommand:
    """One call of test.py; `run` returns its exit status."""

    def __init__(self, settings: TranslateSettings) -> None:
        if settings.weights is None and settings.name is None:
            raise UserError("give --name of a run, or --weights FILE.pth")
        self.settings = settings
        self.rank, self.world_size, local_rank = rank_from_env()
        # This rank's part of a list; it must not depend on which files exist, as other ranks write.
        self.share = slice(self.rank, None, self.world_size)
        self.console = Console(highlight=False, soft_wrap=True)
        log_to(self._print)
        self.planner = BatchPlanner(
            resolve_device(settings.device, index=local_rank),
            precision=settings.precision,
            compile=settings.compile,
            batch_size=settings.batch_size,
        )
        self.failed: dict[Path, str] = {}
        self.written = self.skipped = 0
        self.output = Path()

    def run(self) -> int:
        # Some generators draw noise: the same command must write the same images.
        torch.manual_seed(0)
        self.planner.prepare_torch()
        try:
            if self.settings.input is not None:
                self._translate_input(self.settings.input)
            else:
                self._translate_test_images()
        except KeyboardInterrupt:
            sys.stderr.write(
                f"stopped: {self.written} images are written; the same command makes the rest\n"
            )
            raise
        return 0 if self.settings.dry_run else self._report()

    def _translate_input(self, source: Path) -> None:
        direction = self.settings.direction or "AtoB"
        # Path.resolve raises for a link to itself.
        real = Path(os.path.realpath(source))
        title = real.name if real.is_dir() else real.stem
        self.output = self.settings.output or self._results() / f"{title}_{direction}"
        if self.settings.overwrite and real in self.output.resolve().parents:
            # The files in the output may be earlier translations, or the user's own images.
            raise UserError(
                f"--overwrite could replace originals, as --output {self.output} lies inside "
                "--input: choose a folder outside it"
            )
        jobs = find_jobs(source, self.output)[: self.settings.max_dataset_size]
        self._translate(direction, jobs[self.share])

    def _translate_test_images(self) -> None:
        """Translates in both directions, and back again, under the classic file names."""
        settings = self.settings
        if settings.weights is not None:
            raise UserError("--weights needs --input: a single generator has no test images")
        data_options = run_settings(settings.checkpoints_dir / str(settings.name)).data_options
        dataroot = settings.dataroot or data_options["dataroot"]
        sources = DataSources(**{**data_options, "dataroot": dataroot})
        self.output = settings.output or self._results() / "images"
        directions: list[Direction] = ["AtoB", "BtoA"]
        wanted = [settings.direction] if settings.direction else directions
        folders = {direction: sources.find("test", direction[0]) for direction in wanted}
        found = {d: (f, find_images(f)) for d, f in folders.items() if f and f.is_dir()}
        if not any(files for _, files in found.values()):
            where = dataroot or f"run {settings.name}"
            raise UserError(f"{where} has no images in testA or testB: give --input FOLDER")
        for direction, (folder, files) in found.items():
            self._translate_domain(direction, folder, files[: settings.max_dataset_size])

    def _translate_domain(self, direction: Direction, folder: Path, files: Sequence[Path]) -> None:
        source, target = direction[0], direction[-1]
        stems = [self.output / stem for stem in unique_stems(folder, files)[self.share]]
        real, fake, rec = (
            [stem.with_name(f"{stem.name}_{kind}.png") for stem in stems]
            for kind in (f"real_{source}", f"fake_{target}", f"rec_{source}")
        )
        refuse_outside(self.output, [*real, *fake, *rec])
        self._translate(None, _jobs(files[self.share], real))
        self._translate(direction, _jobs(files[self.share], fake))
        # An image that could not be read has no translation.
        jobs = [job for job in _jobs(fake, rec) if job.source.exists() or self.settings.dry_run]
        self._translate("BtoA" if direction == "AtoB" else "AtoB", jobs)

    def _translate(self, direction: Direction | None, jobs: Sequence[TranslationJob]) -> None:
        """Without a direction, the images are copied."""
        translator = self._load(direction) if direction else None
        since = translator.weights_time if translator else 0.0
        todo = list(jobs) if self.settings.overwrite else unfinished(jobs, since=since)
        self.skipped += len(jobs) - len(todo)
        if self.settings.dry_run:
            how = f"translate {direction} by {self._source()}" if direction else "copy"
            logger.info("would %s: %d of %d images to %s", how, len(todo), len(jobs), self.output)
            return
        results = translate_files(
            translator.batch if translator else list,
            todo,
            batch_size=partial(self.planner.batch_sizes, translator) if translator else 1,
            num_threads=self.settings.num_threads,
        )
        for result in track(
            results,
            "translating" if translator else "copying",
            len(todo),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ):
            if result.problem is None:
                self.written += 1
            else:
                self.failed[result.job.source] = result.problem

    def _load(self, direction: Direction) -> Translator:
        return Translator.load(
            self._source(),
            direction=direction,
            epoch=self.settings.epoch,
            device=str(self.planner.device),
            trust_imports=self.settings.trust_imports,
            plan=self.planner.plan,
        )

    def _source(self) -> Path:
        settings = self.settings
        return settings.weights or settings.checkpoints_dir / str(settings.name)

    def _results(self) -> Path:
        # Images of other weights must not be mixed with those of the run's own.
        weights = self.settings.weights
        name = "-".join(filter(None, [self.settings.name, weights.stem if weights else None]))
        return self.settings.results_dir / name / f"test_{self.settings.epoch}"

    def _print(self, line: str) -> None:
        prefix = f"process {self.rank}: " if self.world_size > 1 else ""
        self.console.print(prefix + line, markup=False)

    def _report(self) -> int:
        """Says what was written, and which images failed; returns 1 if any did."""
        skipped = f", {self.skipped} were there already (--overwrite makes them anew)"
        logger.info(
            "%d images written to %s%s", self.written, self.output, skipped if self.skipped else ""
        )
        for path, problem in self.failed.items():
            sys.stderr.write(f"not translated: {path} ({problem})\n")
        return 1 if self.failed else 0


def _jobs(sources: Sequence[Path], targets: Sequence[Path]) -> list[TranslationJob]:
    return [TranslationJob(*pair) for pair in zip(sources, targets, strict=True)]
