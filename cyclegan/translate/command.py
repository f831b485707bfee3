"""What test.py does: one image, a folder, or the run's own test images."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track

from cyclegan.config.command_line import run_settings
from cyclegan.config.errors import UserError
from cyclegan.config.options import Direction, TranslateSettings
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import domain_folder, find_images, stems
from cyclegan.hardware.devices import own_place, resolve_device
from cyclegan.translate.batching import Plan
from cyclegan.translate.image_folders import (
    Job,
    find_jobs,
    stay_inside,
    translate_files,
    unfinished,
)
from cyclegan.translate.translator import Translator

Item = TypeVar("Item")


class Translation:
    """One call of test.py; `run` gives its exit status."""

    def __init__(self, settings: TranslateSettings) -> None:
        if settings.weights is None and settings.name is None:
            raise UserError("give --name of a run, or --weights FILE.pth")
        self.rank, self.size, local_rank = own_place()
        # Under torchrun each process has a device of its own.
        device = str(resolve_device(settings.device, index=local_rank))
        self.settings = settings = settings.model_copy(update={"device": device})
        self.console = Console(highlight=False, soft_wrap=True)
        self.plan = Plan(settings, say=self._say)
        self.failed: dict[Path, str] = {}
        self.written = self.skipped = 0
        self.where = Path()

    def run(self) -> int:
        # Some generators draw noise: the same command is to write the same images.
        torch.manual_seed(0)
        self.plan.prepare_torch()
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
        return self._summary()

    def _translate_input(self, source: Path) -> None:
        direction = self.settings.direction or "AtoB"
        # Not Path.resolve, to which a link in a circle is no user's mistake.
        place = Path(os.path.realpath(source))
        title = place.name if place.is_dir() else place.stem
        output = self.settings.output or self._results() / f"{title}_{direction}"
        if self.settings.overwrite and place in output.resolve().parents:
            # What lies there may be translations of an earlier call, or pictures of the user's.
            raise UserError(
                f"--overwrite could replace originals, as --output {output} lies inside --input: "
                "choose a folder outside it"
            )
        jobs = find_jobs(source, output)[: self.settings.max_dataset_size]
        self._translate(self._load(direction), self._own(jobs))
        self.where = output

    def _translate_test_images(self) -> None:
        """Both ways and back again, under the names of the classic implementation."""
        if self.settings.weights is not None:
            raise UserError("--weights needs --input: a single generator has no test images")
        run = self._run()
        self.where = self.settings.output or self._results() / "images"
        directions: list[Direction] = ["AtoB", "BtoA"]
        wanted = [self.settings.direction] if self.settings.direction else directions
        folders = {d: domain_folder(run, "test", d[0]) for d in wanted}
        found = {d: (folder, find_images(folder)) for d, folder in folders.items() if folder}
        if not any(files for _, files in found.values()):
            where = run.dataroot or f"run {self.settings.name}"
            raise UserError(f"{where} has no images in testA or testB: give --input FOLDER")
        for direction, (folder, files) in found.items():
            self._translate_domain(direction, folder, files[: self.settings.max_dataset_size])

    def _translate_domain(self, direction: Direction, folder: Path, files: Sequence[Path]) -> None:
        here, there = direction[0], direction[-1]
        places = self._own([self.where / stem for stem in stems(folder, files)])
        files = self._own(files)
        real, fake, rec = (
            [place.with_name(f"{place.name}_{kind}.png") for place in places]
            for kind in (f"real_{here}", f"fake_{there}", f"rec_{here}")
        )
        stay_inside(self.where, [*real, *fake, *rec])
        self._translate(None, _jobs(files, real))
        self._translate(self._load(direction), _jobs(files, fake))
        # A file that could not be read has no translation to bring back.
        back: Direction = "BtoA" if direction == "AtoB" else "AtoB"
        self._translate(self._load(back), [job for job in _jobs(fake, rec) if job.source.exists()])

    def _translate(self, translator: Translator | None, jobs: Sequence[Job]) -> None:
        """Without a translator, the images are only brought to the results beside the others."""
        since = translator.made if translator else 0.0
        left = list(jobs) if self.settings.overwrite else unfinished(jobs, since=since)
        self.skipped += len(jobs) - len(left)
        results = translate_files(
            translator.batch if translator else list,
            left,
            batch_size=partial(self.plan.batch_sizes, translator) if translator else 1,
            num_threads=self.settings.num_threads,
        )
        title = "translating" if translator else "copying"
        shown = track(
            results,
            title,
            len(left),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        for result in shown:
            if result.problem is None:
                self.written += 1
            else:
                self.failed[result.job.source] = result.problem

    def _own(self, items: Sequence[Item]) -> Sequence[Item]:
        """Of what all processes are to translate, the part of this one, whatever is there already:
        others may be at theirs.
        """
        return items[self.rank :: self.size]

    def _load(self, direction: Direction) -> Translator:
        settings = self.settings
        return Translator.load(
            settings.weights or settings.checkpoints_dir / str(settings.name),
            direction=direction,
            epoch=settings.epoch,
            device=settings.device,
            trust_imports=settings.trust_imports,
            speed=self.plan.speed,
        )

    def _run(self) -> TrainSettings:
        run = run_settings(self.settings.checkpoints_dir / str(self.settings.name))
        if self.settings.dataroot is None:
            return run
        return run.model_copy(update={"dataroot": self.settings.dataroot})

    def _results(self) -> Path:
        # Other weights than the run's own write elsewhere: their images are not the run's.
        weights = self.settings.weights
        name = "-".join(filter(None, [self.settings.name, weights.stem if weights else None]))
        return self.settings.results_dir / name / f"test_{self.settings.epoch}"

    def _say(self, line: str) -> None:
        who = f"process {self.rank}: " if self.size > 1 else ""
        self.console.print(who + line, markup=False)

    def _summary(self) -> int:
        """What was written where and, last, what was not; 1 where anything failed."""
        skipped = f", {self.skipped} were there already (--overwrite makes them anew)"
        self._say(f"{self.written} images written to {self.where}{skipped if self.skipped else ''}")
        for path, problem in self.failed.items():
            sys.stderr.write(f"not translated: {path} ({problem})\n")
        return 1 if self.failed else 0


def _jobs(sources: Sequence[Path], targets: Sequence[Path]) -> list[Job]:
    return [Job(source, target) for source, target in zip(sources, targets, strict=True)]
