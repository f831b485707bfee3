"""The contact sheet: samples of both domains side by side, and below them the findings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from cyclegan.config.errors import printable
from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile
from cyclegan.tools.doctor.data_inspection import InspectedFolder, Inspection
from cyclegan.tools.doctor.findings import KINDS
from cyclegan.tools.doctor.findings_report import folder_statistics, verdict
from cyclegan.tools.doctor.image_inspection import map_in_threads

# Random samples of each domain.
NUM_SAMPLES = 32
SEED = 0

TILE = 96
_STEP = TILE + 8
_MARGIN = 28
_COLUMNS = 8
_BLOCK_WIDTH = _COLUMNS * _STEP + 20
_HEADING = 52
_CAPTION = 32

_BLACK, _GRAY, _GREEN, _PALE = "#1d2330", "#697386", "#1a8a4a", "#eef0f4"
_COLORS = {"warning": "#e08600", "error": "#d92d20", "note": "#3b6fd4"}


class _Block(NamedTuple):
    """A heading above rows of tiles. Each group of files has one outline, in a colour or none."""

    color: str | tuple[int, ...]
    title: str
    words: str
    groups: Sequence[tuple[Sequence[ImageFile], str | None]]


class ContactSheet:
    """Draws an inspection from the top down into `image`."""

    def __init__(self, inspection: Inspection) -> None:
        domains, findings = _domain_blocks(inspection), _finding_blocks(inspection)
        self.inspection = inspection
        groups = [group for block in (*domains, *findings) for group in block.groups]
        self.tiles = _load_tiles(inspection, [file for files, _ in groups for file in files])
        # The largest possible height; the unused rest is cropped.
        height = 200 + NUM_SAMPLES // _COLUMNS * _STEP + len(findings) * 200
        self.image = Image.new("RGB", (2 * _BLOCK_WIDTH + 2 * _MARGIN, height), "white")
        self.canvas = ImageDraw.Draw(self.image)
        title = str(inspection.root or "images of A and B")
        self._text(_MARGIN, _MARGIN, title, 26, width=2 * _BLOCK_WIDTH)
        color = _GREEN if inspection.ok else _COLORS["error"]
        self._text(_MARGIN, _MARGIN + 36, verdict(inspection), 15, color)
        columns = enumerate(domains)
        y = max(self._block(_MARGIN + i * _BLOCK_WIDTH, 104, block) for i, block in columns)
        for block in findings:
            y = self._block(_MARGIN, y + 16, block, columns=2 * _COLUMNS, captions=True)
        self.image = self.image.crop((0, 0, self.image.width, y + _MARGIN))

    def _block(
        self, x: int, y: int, block: _Block, *, columns: int = _COLUMNS, captions: bool = False
    ) -> int:
        """Returns the y below the block."""
        self.canvas.rectangle((x, y, x + 35, y + 35), fill=block.color)
        self._text(x + 46, y - 2, block.title, 19)
        self._text(x + 46, y + 21, block.words, 14, _GRAY)
        place = 0
        for files, outline in block.groups:
            row, column = divmod(place, columns)
            left, top = x + column * _STEP, y + _HEADING + row * _STEP
            for index, file in enumerate(files):
                self._tile(left + index * _STEP, top, file, caption=captions)
            if outline:
                right = left + len(files) * _STEP - 6
                box = (left - 3, top - 3, right, top + TILE + 2)
                self.canvas.rectangle(box, outline=outline, width=3)
            place += len(files)
        num_rows = -(-place // columns)
        return y + _HEADING + num_rows * (_STEP + captions * _CAPTION)

    def _tile(self, x: int, y: int, file: ImageFile, *, caption: bool) -> None:
        """The image, or a cross if the file cannot be shown, above its name and its folder."""
        if (tile := self.tiles.get(file)) is not None:
            self.image.paste(tile, (x, y))
        else:
            self.canvas.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=_PALE)
            middle = (x + TILE // 2, y + TILE // 2)
            self.canvas.text(middle, "x", _GRAY, font_size=64, anchor="mm")
        if caption:
            folder, _, name = self.inspection.name(file).rpartition("/")
            self._text(x, y + TILE + 4, name, 11, width=TILE)
            self._text(x, y + TILE + 18, folder, 11, _GRAY, width=TILE)

    def _text(
        self, x: int, y: int, words: str, size: int, color: str = _BLACK, *, width: int = 2000
    ) -> None:
        """Writes the words or, if they are wider than `width`, their end, where names differ."""
        words = shown = printable(words)
        while words and self.canvas.textlength(shown, font_size=size) > width:
            words = words[1:]
            shown = f"...{words}"
        self.canvas.text((x, y), shown, color, font_size=size)


def _domain_blocks(inspection: Inspection) -> list[_Block]:
    """Random usable images of each training domain, the same each time."""
    # In reverse order, in which the colour of an error replaces that of a warning.
    outlines = {
        file: _COLORS[KINDS[kind].severity]
        for kind, findings in reversed(inspection.findings.items())
        if KINDS[kind].severity != "note"
        for finding in findings
        for file in finding.files
    }
    blocks = []
    for folder in (each for each in inspection.folders if each.name.startswith("train")):
        files = [image.file for image in folder.usable]
        chosen = np.random.default_rng(SEED).permutation(len(files))[:NUM_SAMPLES]
        samples = [files[index] for index in sorted(chosen.tolist())]
        groups = [([file], outlines.get(file)) for file in samples]
        blocks.append(_Block(*_domain_heading(folder), groups))
    return blocks


def _domain_heading(folder: InspectedFolder) -> tuple[tuple[int, ...] | str, str, str]:
    """The mean colour, the folder's name, the number of images and their statistics."""
    words = f"{folder.num_images} images"
    if not (statistics := folder_statistics(folder)):
        return _PALE, folder.name, words
    template = (
        ", typically {typical_size[0]}x{typical_size[1]} px, brightness {brightness:.0f}, "
        "contrast {contrast:.0f}, saturation {saturation:.0f}"
    )
    color = tuple(round(value) for value in statistics["mean"])
    return color, folder.name, words + template.format(**statistics)


def _finding_blocks(inspection: Inspection) -> list[_Block]:
    """For each kind of finding, one row of its files: as many findings as fit."""
    blocks = []
    for kind, findings in inspection.findings.items():
        severity, title, meaning, _ = KINDS[kind]
        color = _COLORS[severity]
        # The first and the last of a group lie in different folders if any do. A finding about
        # folders has no image to show.
        shown = [each.files[:: max(1, len(each.files) - 1)] for each in findings]
        shown = [files for files in shown if not (isinstance(files[0], Path) and files[0].is_dir())]
        fit = 2 * _COLUMNS // max(map(len, shown), default=1)
        heading = f"{severity}: {len(findings)} {title}"
        groups = [(files, color) for files in shown[:fit]]
        blocks.append(_Block(color, heading, meaning, groups))
    return blocks


def _load_tiles(inspection: Inspection, files: Sequence[ImageFile]) -> dict[ImageFile, Image.Image]:
    """The files that can be read, also those that the program ignores, TILE px square."""
    inspected = [each for folder in inspection.folders for each in folder.files]
    readable = {each.file for each in inspected if each.image or "foreign" in each.problems}
    shown = sorted(readable & set(files), key=str)
    tiles = zip(shown, map_in_threads(_load_tile, shown, max_threads=4), strict=True)
    return {file: tile for file, tile in tiles if tile is not None}


def _load_tile(file: ImageFile) -> Image.Image | None:
    try:
        return ImageOps.pad(read_image(file), (TILE, TILE), Image.Resampling.LANCZOS, _PALE)
    except UnreadableImage:
        return None
