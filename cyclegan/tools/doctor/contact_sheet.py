"""The contact sheet: what the domains look like side by side and, below, what was found in them."""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cyclegan.config.errors import printable
from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile
from cyclegan.tools.doctor.findings import KINDS, Finding
from cyclegan.tools.doctor.inspection import Diagnosis, Part
from cyclegan.tools.doctor.printout import statistics, verdict

# So many images of either domain are shown, drawn at random from the seed.
COUNT = 32
SEED = 0

CELL = 96
_GAP = 8
_MARGIN = 28
_COLUMNS = 8
_BLOCK = _COLUMNS * (CELL + _GAP) - _GAP
_WIDTH = 2 * _BLOCK + 3 * _MARGIN
_CAPTION = 32

_INK = "#1d2330"
_FAINT = "#697386"
_GROUND = "#ffffff"
_TILE = "#eef0f4"
_COLOURS = {"error": "#d92d20", "warning": "#e08600", "note": "#3b6fd4"}
_GOOD = "#1a8a4a"

Thumbs = dict[ImageFile, Image.Image]


@dataclass
class Pen:
    """Draws on a sheet from the top down, at the height `y`."""

    sheet: Image.Image
    y: int = _MARGIN

    def text(self, x: int, y: int, words: str, *, size: int = 15, fill: str = _INK) -> None:
        font = ImageFont.load_default(size)
        ImageDraw.Draw(self.sheet).text((x, y), printable(words), fill=fill, font=font)

    def tile(self, x: int, y: int, image: Image.Image | None, outline: str | None = None) -> None:
        """An image in its frame; a crossed one stands for a file that cannot be shown."""
        pen = ImageDraw.Draw(self.sheet)
        pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=_TILE)
        if image is not None:
            left, top = (CELL - image.width) // 2, (CELL - image.height) // 2
            self.sheet.paste(image, (x + left, y + top))
        else:
            for ends in ((30, 30, CELL - 31, CELL - 31), (30, CELL - 31, CELL - 31, 30)):
                pen.line([x + ends[0], y + ends[1], x + ends[2], y + ends[3]], "#b3bac7", 3)
        if outline is not None:
            pen.rectangle((x - 3, y - 3, x + CELL + 2, y + CELL + 2), outline=outline, width=3)


def draw(found: Diagnosis) -> Image.Image:
    """A and B beside each other, flagged images outlined, then a row for each kind of finding."""
    chosen = {part.name: _choose(part) for part in found.parts if part.name.startswith("train")}
    rows = {kind: _row(findings) for kind, findings in found.by_kind().items()}
    tiles = [file for groups in rows.values() for group in groups for file in group]
    thumbs = _thumbs(found, {*(file for files in chosen.values() for file in files), *tiles})
    # As tall as it could be at most; what is left over is cut off.
    height = 240 + COUNT // _COLUMNS * (CELL + _GAP) + len(rows) * (CELL + 100)
    pen = Pen(Image.new("RGB", (_WIDTH, height), _GROUND))
    _head(pen, found)
    _domains(pen, found, chosen, thumbs)
    for kind, groups in rows.items():
        _findings(pen, found, kind, groups, thumbs)
    return pen.sheet.crop((0, 0, _WIDTH, pen.y + _MARGIN))


def _head(pen: Pen, found: Diagnosis) -> None:
    title = str(found.root) if found.root is not None else "images of A and B"
    pen.text(_MARGIN, pen.y, _elided(title, 26, 2 * _BLOCK), size=26)
    pen.text(_MARGIN, pen.y + 36, verdict(found), fill=_GOOD if found.ok else _COLOURS["error"])
    pen.y += 76


def _domains(
    pen: Pen, found: Diagnosis, chosen: dict[str, list[ImageFile]], thumbs: Thumbs
) -> None:
    top, bottom = pen.y, pen.y
    outlines = _outlines(found)
    parts = [part for part in found.parts if part.name in chosen]
    for column, part in enumerate(parts):
        left = _MARGIN + column * (_BLOCK + _MARGIN)
        _domain_head(pen, left, top, part)
        for index, file in enumerate(chosen[part.name]):
            x = left + index % _COLUMNS * (CELL + _GAP)
            y = top + 52 + index // _COLUMNS * (CELL + _GAP)
            pen.tile(x, y, thumbs.get(file), outlines.get(file))
            bottom = max(bottom, y + CELL)
    pen.y = max(bottom, top + 52) + _GAP


def _domain_head(pen: Pen, x: int, y: int, part: Part) -> None:
    """The name, a patch of the mean colour, and how many images of what size."""
    figures = statistics(part)
    if figures:
        red, green, blue = (round(value) for value in figures["mean"])
        ImageDraw.Draw(pen.sheet).rectangle((x, y, x + 35, y + 35), fill=(red, green, blue))
    pen.text(x + 46, y - 2, part.name, size=19)
    about = f"{part.num_images} images"
    if figures:
        width, height = figures["typical_size"]
        about += f", typically {width}x{height} px, brightness {figures['brightness']:.0f}, "
        about += f"contrast {figures['contrast']:.0f}, saturation {figures['saturation']:.0f}"
    pen.text(x + 46, y + 21, about, size=14, fill=_FAINT)


def _findings(
    pen: Pen, found: Diagnosis, kind: str, groups: Sequence[Sequence[ImageFile]], thumbs: Thumbs
) -> None:
    """A heading and a row of tiles; files that share a finding stand within one outline."""
    about, count = KINDS[kind], len(found.by_kind()[kind])
    colour = _COLOURS[about.severity]
    pen.y += 16
    ImageDraw.Draw(pen.sheet).rectangle((_MARGIN, pen.y, _MARGIN + 5, pen.y + 20), fill=colour)
    pen.text(_MARGIN + 14, pen.y, f"{about.severity}: {count} {about.title}", size=17, fill=colour)
    heading = ImageFont.load_default(17).getlength(f"{about.severity}: {count} {about.title}")
    pen.text(_MARGIN + 30 + round(heading), pen.y + 2, about.means, size=14, fill=_FAINT)
    pen.y += 34
    x = _MARGIN + 3
    for group in groups:
        for index, file in enumerate(group):
            left = x + index * (CELL + 4)
            pen.tile(left, pen.y, thumbs.get(file))
            _caption(pen, left, pen.y + CELL + 4, found.name(file))
        right = x + len(group) * (CELL + 4) - 4
        box = (x - 3, pen.y - 3, right + 2, pen.y + CELL + 2)
        ImageDraw.Draw(pen.sheet).rectangle(box, outline=colour, width=3)
        x = right + 16
    if groups:
        pen.y += CELL + _CAPTION


def _caption(pen: Pen, x: int, y: int, name: str) -> None:
    """A file's name and, below it, its folder's."""
    place, _, name = name.rpartition("/")
    pen.text(x, y, _elided(name, 11, CELL), size=11)
    pen.text(x, y + 14, _elided(place, 11, CELL), size=11, fill=_FAINT)


def _choose(part: Part) -> list[ImageFile]:
    """A few usable images at random, the same each time, in the order of their names."""
    files = [look.file for look in part.usable]
    order = np.random.default_rng(SEED).permutation(len(files))[:COUNT]
    return [files[index] for index in sorted(order.tolist())]


def _row(findings: Sequence[Finding]) -> list[list[ImageFile]]:
    """The files of as many findings as there is room for, two of each that several share."""
    row: list[list[ImageFile]] = []
    room = _WIDTH - 2 * _MARGIN
    for finding in findings:
        # A finding about folders has nothing to show.
        group = [
            file for file in _ends(finding.files) if not (isinstance(file, Path) and file.is_dir())
        ]
        room -= len(group) * (CELL + 4) + 12
        if room < 0:
            break
        if group:
            row.append(group)
    return row


def _ends(files: Sequence[ImageFile]) -> Sequence[ImageFile]:
    # The first and the last: of a group across two folders, one of each.
    return files if len(files) < 3 else (files[0], files[-1])


def _outlines(found: Diagnosis) -> dict[ImageFile, str]:
    """The colour of the gravest finding about each file, but for notes."""
    colours: dict[ImageFile, str] = {}
    for severity in ("warning", "error"):
        for finding in found.findings:
            if KINDS[finding.kind].severity == severity:
                colours |= dict.fromkeys(finding.files, _COLOURS[severity])
    return colours


def _thumbs(found: Diagnosis, wanted: Iterable[ImageFile]) -> Thumbs:
    """Small versions of those that can be read, also where the program passes over them."""
    looks = [look for part in found.parts for look in part.looks]
    readable = {look.file for look in looks if look.size or "foreign" in look.marks}
    files = sorted(readable & set(wanted), key=str)
    # Reading an image silences warnings for the process, which threads may leave so: undone here.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        thumbs = list(pool.map(_thumb, files))
    return {file: thumb for file, thumb in zip(files, thumbs, strict=True) if thumb is not None}


def _thumb(file: ImageFile) -> Image.Image | None:
    try:
        image = read_image(file)
    except UnreadableImage:
        return None
    scale = CELL / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _elided(text: str, size: int, width: int) -> str:
    """The end of the text, as much of it as fits: where names differ."""
    font = ImageFont.load_default(size)
    text = printable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
