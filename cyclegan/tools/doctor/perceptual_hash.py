"""Finds a scaled, compressed or retouched picture again among a hundred thousand."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

# Side of the thumbnails that decide whether two pictures of similar hashes are the same.
SMALL = 16

# Largest Hamming distance of similar hashes. With at most 7 different bits, one of the four 16-bit
# bands differs in at most one bit.
MAX_DISTANCE = 7
_BAND_SHIFTS = range(0, 64, 16)
_FLIPS = (0, *(1 << bit for bit in range(16)))

# Each hash is compared with at most this many neighbours of one band value, which keeps the search
# linear for the frames of a film, and a picture still meets those most like it.
_WINDOW = 8

# Hashes, and pairs of thumbnails (3 MB), that are processed at once.
_HASHES_AT_ONCE = 2**16
_PAIRS_AT_ONCE = 2**10

# Side of the gray image that is hashed.
_SIDE = 32

_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


def perceptual_hash(image: Image.Image) -> int:
    """64 bits: which of the lowest frequencies of the cosine transform lie above their median.
    Scaling, compression, noise and slight retouching change few of them.
    """
    gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    basis, lowest = _cosine_basis()
    values = (basis @ np.asarray(gray, dtype=np.float64) @ basis.T).ravel()[lowest]
    return int.from_bytes(np.packbits(values > np.median(values)).tobytes(), "big")


def near_pairs(hashes: np.ndarray, *, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Index pairs (N x 2, each once) of uint64 hashes that differ in at most `max_distance` bits.

    The work grows with the number of hashes, not with its square.
    """
    # A pair as one number; the bands find many pairs several times.
    codes = np.zeros(0, dtype=np.int64)
    for pairs in _candidates(hashes):
        differing = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
        distances = _BITS_OF_BYTE[differing.view(np.uint8).reshape(-1, 8)].sum(axis=1)
        pairs = pairs[distances <= max_distance]
        codes = np.union1d(codes, pairs.min(axis=1) * len(hashes) + pairs.max(axis=1))
    return np.stack(np.divmod(codes, max(1, len(hashes))), axis=1)


def resemble(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """For each pair of N x SMALL x SMALL x 3 thumbnails, whether they show the same picture up to
    brightness, contrast and a colour cast.
    """
    same = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (_centered(thumbnails[pairs[chunk, side]]) for side in (0, 1))
        contrasts = np.sqrt((one**2).mean(axis=1)), np.sqrt((other**2).mean(axis=1))
        lower, higher = np.minimum(*contrasts), np.maximum(*contrasts)
        product = (one * other).mean(axis=1)
        # The squared difference once both have the lower contrast.
        difference = 2.0 * lower**2 - 2.0 * product * lower / np.maximum(higher, 1e-6)
        similar = np.sqrt(np.maximum(difference, 0.0)) <= 1.5 + 0.12 * lower
        same[chunk] = similar & (higher <= 2.0 * lower + 1.0)
    return same


def connected(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components of the graph with these edges, sorted."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for pair in pairs:
        low, high = sorted(map(root, pair))
        parent[high] = low
    components: dict[int, list[int]] = {}
    for node in sorted(parent):
        components.setdefault(root(node), []).append(node)
    return list(components.values())


@lru_cache(maxsize=1)
def _cosine_basis() -> tuple[np.ndarray, np.ndarray]:
    """The matrix of the cosine transform, and the indices of its 64 lowest frequencies above 0."""
    steps = np.arange(_SIDE)
    basis = np.cos(np.pi * np.outer(steps, steps + 0.5) / _SIDE)
    distance = (steps[:, None] ** 2 + steps**2).ravel()
    return basis, np.argsort(distance, kind="stable")[1:65]


def _candidates(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Index pairs that agree in a band up to one bit."""
    for shift in _BAND_SHIFTS:
        keys = (hashes >> np.uint64(shift)).astype(np.uint16)
        order = np.lexsort((hashes, keys))
        keys = keys[order]
        for flip in _FLIPS:
            # A hash whose bit is 0 looks for those whose bit is 1: each pair comes once.
            rows = np.flatnonzero((keys & flip) == 0)
            wanted = keys[rows] ^ np.uint16(flip)
            first = np.searchsorted(keys, wanted, side="left") if flip else rows + 1
            counts = (np.searchsorted(keys, wanted, side="right") - first).clip(0, _WINDOW)
            for start in range(0, len(rows), _HASHES_AT_ONCE):
                chunk = slice(start, start + _HASHES_AT_ONCE)
                repeats = counts[chunk]
                ends = np.cumsum(repeats)
                offsets = np.arange(repeats.sum()) - np.repeat(ends - repeats, repeats)
                left = np.repeat(rows[chunk], repeats)
                right = np.repeat(first[chunk], repeats) + offsets
                yield np.stack([order[left], order[right]], axis=1)


def _centered(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails as N x values, minus the mean of each channel."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    return values.reshape(len(values), -1)
