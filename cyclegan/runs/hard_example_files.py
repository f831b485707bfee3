"""hard_images.json: the training images of a run with the largest cycle errors."""

import base64
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import AfterValidator, Field, InstanceOf, OnErrorOmit, TypeAdapter, ValidationError

from cyclegan.data.files.jpeg import encode_jpeg
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.record import or_default, read_json

HARD_IMAGES_FILE = "hard_images.json"

_MAX_FILE_BYTES, _MAX_THUMBNAIL_BYTES = 5_000_000, 20_000
_MAX_IMAGES, _MAX_BINS, _MAX_NUMBER = 24, 500, 10**15
_JPEG_URI = r"^data:image/jpeg;base64,[A-Za-z0-9+/]{4,}={0,2}$"


def _check_histogram(found: Histogram) -> Histogram:
    counts = found.counts
    if not (0 < len(counts) <= _MAX_BINS and min(counts) >= 0 and 1 <= max(counts) < _MAX_NUMBER):
        raise ValueError("no counts")
    if not -_MAX_NUMBER < found.low < found.high < _MAX_NUMBER:
        raise ValueError("no range")
    return found


@dataclass(frozen=True)
class SavedHardImage:
    """An image as the file has it; `thumbnail` is "" or the data URI of a JPEG."""

    file: InstanceOf[str]
    error: Annotated[float, Field(strict=True, gt=-_MAX_NUMBER, lt=_MAX_NUMBER)]
    thumbnail: Annotated[str, Field(pattern=_JPEG_URI, max_length=400_000), or_default("")] = ""


@dataclass(frozen=True)
class SavedHardImages:
    """The images of one domain as the file has them."""

    spread: Annotated[
        Annotated[Histogram, AfterValidator(_check_histogram)] | None, or_default(None)
    ] = None
    worst: Annotated[
        tuple[OnErrorOmit[SavedHardImage], ...],
        AfterValidator(lambda images: images[:_MAX_IMAGES]),
        or_default(()),
    ] = ()


_FILE = TypeAdapter(dict[OnErrorOmit[Literal["A", "B"]], OnErrorOmit[SavedHardImages]])


def write_hard_images(run_dir: Path, step: int, images: HardImages) -> None:
    """Raises OSError if the write fails."""
    content: dict[str, Any] = {"step": step}
    for domain, spread in images.spread.items():
        worst = [_as_dict(image) for image in images.worst.get(domain, ())]
        content[domain] = {"spread": asdict(spread), "worst": worst}
    write_atomically(run_dir / HARD_IMAGES_FILE, f"{json.dumps(content)}\n".encode())


def read_domains(run_dir: Path) -> dict[str, SavedHardImages]:
    """The valid entries of the file, by domain; none if it is missing or broken."""
    try:
        found = read_json(run_dir / HARD_IMAGES_FILE, max_bytes=_MAX_FILE_BYTES)
        return dict(sorted(_FILE.validate_python(found).items()))
    except ValidationError:
        return {}


def read_hard_images(run_dir: Path) -> HardImages | None:
    """The images with their thumbnails decoded; None if there are none."""
    domains = read_domains(run_dir)
    spread = {name: domain.spread for name, domain in domains.items() if domain.spread}
    worst = {name: tuple(_decode(domain)) for name, domain in domains.items()}
    return HardImages(spread, worst) if spread or any(worst.values()) else None


def _as_dict(image: HardImage) -> dict[str, object]:
    jpeg = base64.b64encode(encode_jpeg(image.thumbnail, max_bytes=_MAX_THUMBNAIL_BYTES)).decode()
    uri = f"data:image/jpeg;base64,{jpeg}"
    return {"file": image.file, "error": round(image.error, 3), "thumbnail": uri}


def _decode(images: SavedHardImages) -> Iterator[HardImage]:
    for image in images.worst:
        # A damaged file may make the decoder raise anything, or warn.
        try:
            data = base64.b64decode(image.thumbnail.partition(",")[2], validate=True)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                thumbnail = Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB")
        except Exception:
            continue
        yield HardImage(image.file, image.error, thumbnail)
