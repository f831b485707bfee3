"""A run of train.py in its own process, with its own images, to be killed and damaged."""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from fault_inside import ARMED
from forked_training import ForkedTraining
from PIL import Image
from torch import Tensor

from cyclegan.monitor.health.curves import losses

ROOT = Path(__file__).resolve().parents[1]

NAME = "run"
STEPS = 40
SAVE_EVERY = 5
# Every part with a state: an image pool that fills, dropout's random state, a moving average.
OPTIONS = (
    "--preset=classic",
    "--generator=resnet(blocks=1, dropout=True)",
    "--discriminator=patch(layers=1)",
    *("--ngf=4", "--ndf=4", "--load_size=40", "--crop_size=32", "--pool_size=3", "--ema=0.9"),
    *("--device=cpu", "--precision=fp32", "--monitor=none", "--num_threads=0"),
    *("--print_every=1", "--preview_every=1000", f"--save_every={SAVE_EVERY}", f"--steps={STEPS}"),
)
# Dropout would draw other random numbers when a step is tried again.
NO_DROPOUT = "--generator=resnet(blocks=1)"

# The limit of every wait, in seconds; the longest ones take a few.
LONGEST = 120.0


class Lost(Exception):
    """The run did not survive: the message says why."""


class LeftOut(Exception):
    """The fault cannot be injected here."""


@dataclass
class Outcome:
    """The cost of a fault: the steps that were repeated, and those among them that had been saved;
    `equal`: whether the final weights equal those of the uninterrupted run, None if the fault
    changes them by its nature.
    """

    lost_steps: int = 0
    beyond_a_save: int = 0
    equal: bool | None = None
    injected: int = 1

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.lost_steps + other.lost_steps,
            self.beyond_a_save + other.beyond_a_save,
            other.equal,
            self.injected + other.injected,
        )


@dataclass(frozen=True)
class Fault:
    """A row of the table: what is done to a run, and what counts as survival."""

    name: str
    injected: str
    survives_if: str
    inject: Callable[["Bench"], Outcome]
    # Whether --short includes it.
    short: bool = False


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Lost(what)


@dataclass
class Bench:
    """The folder of all runs, and what the faults share.

    forks: starts runs as forks of this process, which has imported all modules.
    """

    root: Path
    seed: int
    kills: int
    forks: bool = False
    _uninterrupted: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    _runs: int = 0

    @property
    def start_seconds(self) -> float:
        """About the time from the start of a run to its first step."""
        return 0.3 if self.forks else 3.0

    def random(self, name: str) -> random.Random:
        """Random numbers of one fault, the same whichever others are tried."""
        return random.Random(f"{self.seed} {name}")

    def new_folder(self) -> Path:
        self._runs += 1
        place = self.root / f"{self._runs:03}"
        make_data(place / "data")
        return place

    @contextmanager
    def run(self, *options: str) -> Iterator["Run"]:
        """A run that has not started; its processes are killed at the end."""
        run = Run(self.new_folder(), self.root / "bytecode", options, forks=self.forks)
        try:
            yield run
        finally:
            run.end()
            shutil.rmtree(run.place, ignore_errors=True)

    @contextmanager
    def killed_run(self, *options: str) -> Iterator["Run"]:
        """A run that has been killed in its middle, after three saved states."""
        with self.run(*options) as run:
            run.start()
            run.until_step(3 * SAVE_EVERY + 2)
            run.kill()
            yield run

    def uninterrupted(self, *options: str) -> dict[str, Any]:
        """The last state of the uninterrupted run with these options."""
        if options not in self._uninterrupted:
            with self.run(*options) as run:
                run.start()
                run.expect_exit(0)
                self._uninterrupted[options] = run.state()
        return self._uninterrupted[options]


class Run:
    """A run in its folder, and the processes that train it, one after the other."""

    def __init__(
        self, place: Path, bytecode: Path, options: Sequence[str], *, forks: bool = False
    ) -> None:
        self.place, self.forks = place, forks
        self.data = place / "data"
        self.folder = place / "runs" / NAME
        self.options = options
        self.log = place / "log.txt"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        # Without bytecode, which some environments do not keep, a start takes twice as long.
        if self.environment.pop("PYTHONDONTWRITEBYTECODE", ""):
            self.environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
        self.process: subprocess.Popen[bytes] | ForkedTraining | None = None
        self.reached = 0

    def start(self, *options: str, armed: bool = False) -> None:
        self._launch([f"--dataroot={self.data}", *OPTIONS, *self.options, *options], armed)

    def resume(self, *options: str, armed: bool = False) -> None:
        self._launch(["--continue_train", "--trust_imports", *options], armed)

    def continue_as_printed(self) -> None:
        """Continues with the command that the run has printed."""
        found = re.search(r"go on with: python train\.py (.*)", self.output)
        expect(found, "no command to go on with was named")
        assert found is not None
        self._begin(shlex.split(found[1]), armed=False)

    def _launch(self, options: Sequence[str], armed: bool) -> None:
        self._begin([f"--checkpoints_dir={self.place / 'runs'}", f"--name={NAME}", *options], armed)

    def _begin(self, options: Sequence[str], armed: bool) -> None:
        expect(self.process is None or self.process.poll() is not None, "it still runs")
        arm = {ARMED: "1"} if armed else {}
        start = ForkedTraining if self.forks else subprocess.Popen
        with self.log.open("wb") as log, self.errors_file.open("wb") as errors:
            self.process = start(
                [sys.executable, str(ROOT / "train.py"), *options],
                env={**self.environment, **arm},
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=self.stdout or log,
                stderr=errors,
                start_new_session=True,
            )

    # Replaces the log as the destination of the output.
    stdout: IO[bytes] | int | None = None

    @property
    def errors_file(self) -> Path:
        return self.place / "errors.txt"

    @property
    def output(self) -> str:
        """The output of the newest process."""
        return self.log.read_text(errors="replace")

    @property
    def errors(self) -> str:
        return self.errors_file.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def step(self) -> int:
        """The last step that was reported."""
        steps = re.findall(r"^epoch \d+  step (\d+)/", self.output, re.MULTILINE)
        self.reached = max(self.reached, *map(int, steps), 0)
        return int(steps[-1]) if steps else 0

    def until(self, condition: Callable[[], object], what: str, *, pause: float = 0.005) -> None:
        deadline = time.monotonic() + LONGEST
        while not condition():
            expect(self.alive, f"it ended before {what}: {self.errors.strip()[-300:]}")
            expect(time.monotonic() < deadline, f"no {what} within {LONGEST:g} s")
            time.sleep(pause)

    def until_step(self, step: int) -> None:
        self.until(lambda: self.step() >= step, f"step {step}")

    def until_output(self, words: str) -> None:
        self.until(lambda: words in self.output, f'"{words}"')

    def signal(self, number: int) -> None:
        expect(self.alive, "it ended before the signal")
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, *, seconds: float = LONGEST) -> int:
        """Returns the exit status; raises Lost if the process hangs."""
        assert self.process is not None
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Lost(f"still running after {seconds:g} s") from None
        self.step()
        return status

    def expect_exit(self, status: int, *, seconds: float = LONGEST) -> None:
        """Waits for this exit status; status 2 must come with one line of error."""
        found = self.wait(seconds=seconds)
        errors = self.errors.strip()
        expect(found == status, f"exit status {found}, not {status}: {errors[-300:]}")
        if status == 2:
            expect(errors.count("\n") == 0 and errors.startswith("error: "), f"said: {errors}")

    def continue_to_end(self, *options: str) -> Outcome:
        """Continues to the end; the outcome tells the steps that were lost since the newest valid
        state.
        """
        reached, newest = self.reached, self.newest_valid_step()
        self.resume(*options)
        self.expect_exit(0)
        found = re.search(r"going on after step (\d+)", self.output)
        expect(found, "it did not say where it goes on")
        assert found is not None
        lost, beyond = reached - int(found[1]), newest - int(found[1])
        return Outcome(max(lost, 0), max(beyond, 0))

    def newest_valid_step(self) -> int:
        """The step of the newest readable state, found without the program's own reader."""
        steps = [int(path.stem[6:]) for path in self.states() if _is_valid(path)]
        return max(steps, default=0)

    def states(self) -> list[Path]:
        """All state files, newest first."""
        return sorted(self.folder.glob("state_*.pt"), reverse=True)

    def state(self) -> dict[str, Any]:
        """The newest state. Its history is reduced to the losses: other values depend on the clock
        or on monitors.
        """
        state: dict[str, Any] = torch.load(self.states()[0], weights_only=True)
        state["history"] = [(step, losses(values)) for step, values in state["history"]]
        return state

    def is_finite(self) -> bool:
        return all(bool(w.isfinite().all()) for w in self.state()["model"].values())

    def children(self) -> list[int]:
        """The child processes of all threads of the run."""
        found: list[int] = []
        for path in Path(f"/proc/{self.pid}/task").glob("*/children"):
            # A thread may have ended.
            with suppress(OSError):
                found += map(int, path.read_text().split())
        return found

    def end(self) -> None:
        """Kills the run and its child processes."""
        if self.process is None:
            return
        for pid in (self.process.pid, *self.children()):
            _kill(pid, self.process)
        self.process.wait()


def _kill(pid: int, run: subprocess.Popen[bytes] | ForkedTraining) -> None:
    try:
        # The system may have given the pid of an ended run to another process.
        if run.poll() is None or pid != run.pid:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def make_data(folder: Path) -> None:
    """A few random images, A and B of different counts."""
    for place, (name, count) in enumerate(
        (("trainA", 5), ("trainB", 7), ("testA", 2), ("testB", 2))
    ):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng([place, index])
            soft = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            soft.resize((52, 44)).save(folder / name / f"{index:03}.png")


def same(ours: Any, theirs: Any) -> bool:
    """Whether nested containers of tensors and plain values are equal, bit for bit."""
    if isinstance(ours, Tensor):
        return isinstance(theirs, Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list | tuple):
        pairs = zip(ours, theirs, strict=False)
        return len(ours) == len(theirs) and all(same(*pair) for pair in pairs)
    return bool(ours == theirs)


def _is_valid(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.load(path, weights_only=True)
            return archive.testzip() is None
    # A reader may raise anything on a damaged file.
    except Exception:
        return False
