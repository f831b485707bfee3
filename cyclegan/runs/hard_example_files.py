"""hard_images.json: the training images of a run that are learned worst."""

import base64
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cyclegan.data.files.jpeg import jpeg
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.record import is_number, read_json

HARD_IMAGES_FILE = "hard_images.json"

_MOST_BYTES = 5_000_000
_MOST_BYTES_A_THUMBNAIL = 20_000
_MOST_IMAGES, _MOST_BINS = 24, 500
_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]{4,400000}={0,2}")


@dataclass(frozen=True)
class Kept:
    """An image as the file has it; `thumbnail` is "" or a data URI of a JPEG, and nothing else."""

    file: str
    error: float
    thumbnail: str


@dataclass(frozen=True)
class Domain:
    """The images of A, or of B."""

    spread: Histogram | None
    worst: tuple[Kept, ...]


def write_hard_images(run_dir: Path, step: int, images: HardImages) -> None:
    """Raises OSError where the disk takes it not."""
    told: dict[str, Any] = {"step": step}
    for domain, spread in images.spread.items():
        worst = [_plain(image) for image in images.worst.get(domain, ())]
        told[domain] = {"spread": asdict(spread), "worst": worst}
    text = json.dumps(told) + "\n"
    write_atomically(run_dir / HARD_IMAGES_FILE, lambda file: file.write(text.encode()))


def read_domains(run_dir: Path) -> dict[str, Domain]:
    """What is sound in the file, by domain; nothing where it is missing or broken."""
    found = read_json(run_dir / HARD_IMAGES_FILE, most_bytes=_MOST_BYTES)
    parts = {name: found.get(name) for name in "AB"} if isinstance(found, dict) else {}
    return {
        name: Domain(_spread(part.get("spread")), tuple(_worst(part.get("worst"))))
        for name, part in parts.items()
        if isinstance(part, dict)
    }


def read_hard_images(run_dir: Path) -> HardImages | None:
    """As the run showed them; None where there are none."""
    domains = read_domains(run_dir)
    spread = {name: domain.spread for name, domain in domains.items() if domain.spread}
    worst = {name: tuple(_shown(domain)) for name, domain in domains.items()}
    return HardImages(spread, worst) if spread or any(worst.values()) else None


def _plain(image: HardImage) -> dict[str, object]:
    small = base64.b64encode(jpeg(image.thumbnail, most=_MOST_BYTES_A_THUMBNAIL)).decode()
    picture = f"data:image/jpeg;base64,{small}"
    return {"file": image.file, "error": round(image.error, 3), "thumbnail": picture}


def _worst(found: object) -> Iterator[Kept]:
    for image in found[:_MOST_IMAGES] if isinstance(found, list) else ():
        if isinstance(image, dict) and is_number(image.get("error")):
            picture = str(image.get("thumbnail"))
            sound = picture if _PICTURE.fullmatch(picture) else ""
            yield Kept(str(image.get("file")), float(image["error"]), sound)


def _spread(found: object) -> Histogram | None:
    if not isinstance(found, dict) or not isinstance(counts := found.get("counts"), list):
        return None
    low, high = found.get("low"), found.get("high")
    if not 0 < len(counts) <= _MOST_BINS or not all(map(is_number, counts)):
        return None
    if not is_number(low) or not is_number(high) or not low < high:
        return None
    if min(counts) < 0 or max(counts) < 1:
        return None
    return Histogram(tuple(map(int, counts)), float(low), float(high))


def _shown(domain: Domain) -> Iterator[HardImage]:
    for kept in domain.worst:
        if (picture := _picture(kept.thumbnail)) is not None:
            yield HardImage(kept.file, kept.error, picture)


def _picture(uri: str) -> Image.Image | None:
    # On a damaged file a decoder may raise anything.
    try:
        data = base64.b64decode(uri.partition(",")[2], validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                picture: Image.Image = image.convert("RGB")
                return picture
    except Exception:
        return None
