"""Pictures that are there more than once, and what it means where they are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cyclegan.tools.doctor.findings import Finding
from cyclegan.tools.doctor.image_checks import Look
from cyclegan.tools.doctor.perceptual_hash import alike, groups, near_pairs


def find_duplicates(parts: Mapping[str, Sequence[Look]]) -> list[Finding]:
    """Pictures that are there more than once, in groups; what that means depends on where."""
    looks = [look for part in parts.values() for look in part]
    places = [name for name, part in parts.items() for _ in part]
    related: dict[str, list[tuple[int, int]]] = {}
    for pair in [*_same(looks, places), *_near(looks, places)]:
        related.setdefault(_relation(*(places[i] for i in pair)), []).append(pair)
    findings = []
    for kind, pairs in related.items():
        for group in groups(pairs):
            same = len({_digest(looks[i]) for i in group}) == 1
            detail = "the same pixels" if same else "nearly the same"
            findings.append(Finding(kind, tuple(looks[i].file for i in group), detail))
    return findings


def _relation(one: str, other: str) -> str:
    """The kind of duplicate, by the parts (as trainA) that the two lie in."""
    if one == other:
        return "repeated"
    if one[:-1] != other[:-1]:
        return "train_test"
    return "across_domains" if one.startswith("train") else "paired_test"


def _same(looks: Sequence[Look], places: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Each image with the first one of the same pixels in each part."""
    first: dict[bytes, dict[str, int]] = {}
    for index, (one, place) in enumerate(zip(looks, places, strict=True)):
        for other in first.setdefault(_digest(one), {}).values():
            yield other, index
        first[_digest(one)].setdefault(place, index)


def _near(looks: Sequence[Look], places: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs that resemble each other, of the first image of each pixels in each part."""
    once: dict[tuple[bytes, str], int] = {}
    for index, (one, place) in enumerate(zip(looks, places, strict=True)):
        if one.prints and one.prints.hash is not None:
            once.setdefault((one.prints.digest, place), index)
    kept = [(index, prints) for index in once.values() if (prints := looks[index].prints)]
    if not kept:
        return
    hashes = np.array([prints.hash for _, prints in kept], dtype=np.uint64)
    small = np.stack([prints.small for _, prints in kept])
    # A pair as one number; the bands give many pairs more than once.
    met = np.zeros(0, dtype=np.int64)
    for pairs in near_pairs(hashes):
        if len(pairs) == 0:
            continue
        codes = np.unique(pairs.min(axis=1) * len(kept) + pairs.max(axis=1))
        codes = codes[~np.isin(codes, met, assume_unique=True)]
        met = np.union1d(met, codes)
        pairs = np.stack(np.divmod(codes, len(kept)), axis=1)
        for left, right in pairs[alike(small, pairs)].tolist():
            if kept[left][1].digest != kept[right][1].digest:
                yield kept[left][0], kept[right][0]


def _digest(one: Look) -> bytes:
    assert one.prints is not None
    return one.prints.digest
