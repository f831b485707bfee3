"""What many tests need: small images, faults to inject, and the same surroundings anywhere."""

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cyclegan.config.logs import log_to

MakeImages = Callable[..., list[Path]]
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def pytest_configure() -> None:
    # Whoever is started in the background ignores Ctrl-C, and so does all that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where no bytecode is kept, as in many containers, each command of hundreds would compile torch
    # anew, for seconds.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # On tensors as small as these, threads wait for each other longer than they compute.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def said() -> list[str]:
    """The lines that the package says from now on, as its commands would show them."""
    lines: list[str] = []
    log_to(lines.append)
    return lines


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Makes something like a photograph: soft shapes in colour, with grain."""

    def make(size: tuple[int, int] = (48, 40), *, seed: int = 0) -> Image.Image:
        random = np.random.default_rng(seed)
        shapes = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
        grain = random.normal(0, 4, soft.shape)
        return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))

    return make


@pytest.fixture
def make_images(picture: Callable[..., Image.Image]) -> MakeImages:
    """Writes `count` such images to a folder as 000.png, 001.png ... and gives their paths."""

    def make(
        folder: Path, count: int, *, size: tuple[int, int] = (48, 40), seed: int = 0
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{index:03}.png" for index in range(count)]
        for index, path in enumerate(paths):
            picture(size, seed=1000 * seed + index).save(path)
        return paths

    return make


@pytest.fixture
def dataroot(tmp_path: Path, make_images: MakeImages) -> Path:
    """A data folder with all four parts, A and B of different counts."""
    for seed, (folder, count) in enumerate(
        (("trainA", 5), ("trainB", 7), ("testA", 2), ("testB", 2))
    ):
        make_images(tmp_path / "data" / folder, count, size=(52, 44), seed=seed)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def faults() -> Iterator[SimpleNamespace]:
    """The parts of benchmarks/faults.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        names = ("faults", "fault_run", "fault_inside")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def assert_same(faults: SimpleNamespace) -> Callable[..., None]:
    """Bit for bit; without printing the weights where they are not."""
    same = faults.fault_run.same

    def compare(ours: dict, theirs: dict) -> None:
        if not same(ours, theirs):
            differ = [name for name in ours if not same(ours[name], theirs[name])]
            pytest.fail(f"not the same: {', '.join(differ)}", pytrace=False)

    return compare
