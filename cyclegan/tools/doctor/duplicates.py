"""Pictures that occur more than once, and what that means depending on the folders."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cyclegan.tools.doctor.findings import Finding
from cyclegan.tools.doctor.image_inspection import DecodedImage
from cyclegan.tools.doctor.perceptual_hash import connected, near_pairs, resemble


def find_duplicates(folders: Mapping[str, Sequence[DecodedImage]]) -> list[Finding]:
    """One finding for each group of equal or nearly equal pictures."""
    images = [image for folder in folders.values() for image in folder]
    names = [name for name, folder in folders.items() for _ in folder]
    pairs_of: dict[str, list[tuple[int, int]]] = {}
    for pair in _duplicate_pairs(images, names):
        pairs_of.setdefault(_relation(*(names[i] for i in pair)), []).append(pair)
    findings = []
    for kind, pairs in pairs_of.items():
        for group in connected(pairs):
            equal = len({images[i].digest for i in group}) == 1
            detail = "the same pixels" if equal else "nearly the same"
            findings.append(Finding(kind, [images[i].file for i in group], detail))
    return findings


def _relation(one: str, other: str) -> str:
    """The kind of a duplicate whose images lie in these two folders, such as trainA."""
    if one == other:
        return "repeated"
    if one[:-1] != other[:-1]:
        return "train_test"
    return "across_domains" if one.startswith("train") else "paired_test"


def _duplicate_pairs(
    images: Sequence[DecodedImage], names: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Index pairs: every image with the first of the same pixels in each folder, then pairs of
    such first images that are nearly the same.
    """
    first: dict[bytes, dict[str, int]] = {}
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        known = first.setdefault(image.digest, {})
        for other in known.values():
            yield other, index
        known.setdefault(name, index)
    chosen = [i for known in first.values() for i in known.values() if images[i].hash is not None]
    if not chosen:
        return
    pairs = near_pairs(np.array([images[i].hash for i in chosen], dtype=np.uint64))
    thumbnails = np.stack([images[i].thumbnail for i in chosen])
    for pair in pairs[resemble(thumbnails, pairs)].tolist():
        left, right = (chosen[i] for i in pair)
        if images[left].digest != images[right].digest:
            yield left, right
