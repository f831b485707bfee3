"""Images packed into tar files."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.sources import DataSources, scan_source


def pack(path: Path, files: dict[str, bytes], *, format: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def found(source: Path) -> list[str]:
    files = scan_source(source, index_dir=None).files
    return [str(file).removeprefix(f"{source}/") for file in files]


def settings(root: Path, **options) -> TrainSettings:
    return check(TrainSettings, {"dataroot": root, **options})


def sources(root: Path, **options) -> DataSources:
    return DataSources(**settings(root, **options).data_options)


def same(first, second) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


@pytest.fixture
def png(picture):
    """The bytes of a small image."""

    def make(seed: int = 0) -> bytes:
        stream = io.BytesIO()
        picture(seed=seed).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def sharded(dataroot, tmp_path):
    """The images of `dataroot` in tar files: trainA in two in a folder, trainB in three beside it,
    testA and testB in one each.
    """
    root = tmp_path / "sharded"
    for part, ends in {"trainA": (3, 5), "trainB": (2, 4, 7), "testA": (2,), "testB": (2,)}.items():
        files = list(contents(dataroot / part).items())
        for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
            name = {
                "trainA": f"trainA/{number:06}.tar",
                "trainB": f"trainB-{number:06}.tar",
            }.get(part, f"{part}.tar")
            pack(root / name, dict(files[start:end]))
    return root
