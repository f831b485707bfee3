"""One picture known again scaled, compressed or retouched, among a hundred thousand."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

# Side of the small image that settles whether two of like hashes are one picture.
SMALL = 16

# Hashes this many bits apart or fewer are compared further: of four bands of 16 bits one then
# differs in a single bit at most.
MOST_BITS = 7
_BANDS = range(0, 64, 16)
_FLIPS = (0, *(1 << bit for bit in range(16)))

# With so many in a row of one band's value, as with the frames of a film, the search stops: it
# stays linear, and a picture still meets those most like it.
_WINDOW = 8
_ROWS = 2**16

# So many pairs of small images are compared at once: 3 MB.
_PAIRS = 2**10

# Side of the gray image that is hashed.
_SIDE = 32


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that scaling, compression, noise and a little retouching leave nearly as they are:
    which of the lowest frequencies of the cosine transform lie above their median.
    """
    gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    waves, lowest = _transform()
    frequencies = waves @ np.asarray(gray, dtype=np.float64) @ waves.T
    values = frequencies.ravel()[lowest]
    bits = np.packbits(values > np.median(values))
    return int.from_bytes(bits.tobytes(), "big")


def near_pairs(hashes: np.ndarray, *, most: int = MOST_BITS) -> Iterator[np.ndarray]:
    """Pairs of indices whose hashes (uint64) differ in `most` bits or fewer, in parts of N x 2.

    A pair may come several times. The work grows with the number of hashes, not with its square.
    """
    for shift in _BANDS:
        keys = (hashes >> np.uint64(shift)).astype(np.uint16)
        order = np.lexsort((hashes, keys))
        keys = keys[order]
        for flip in _FLIPS:
            # Each pair from one side alone: from the one whose bit is not set.
            rows = np.flatnonzero((keys & flip) == 0)
            ends = keys[rows] ^ np.uint16(flip)
            first = np.searchsorted(keys, ends, side="left") if flip else rows + 1
            counts = np.minimum(np.searchsorted(keys, ends, side="right") - first, _WINDOW)
            for start in range(0, len(rows), _ROWS):
                part = slice(start, start + _ROWS)
                left, right = _spread(rows[part], first[part], counts[part])
                pairs = np.stack([order[left], order[right]], axis=1)
                apart = _count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
                yield pairs[apart <= most]


def alike(small: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Which of the pairs are one picture, by their small images (N x SMALL x SMALL x 3): those that
    agree but for brightness, contrast and a cast of colour.
    """
    found = [_alike(small, pairs[i : i + _PAIRS]) for i in range(0, len(pairs), _PAIRS)]
    return np.concatenate([np.zeros(0, dtype=bool), *found])


def groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """All that hang together by pairs, sorted, each group once."""
    parent: dict[int, int] = {}

    def root(one: int) -> int:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for one in sorted(parent):
        found.setdefault(root(one), []).append(one)
    return list(found.values())


@lru_cache(maxsize=1)
def _transform() -> tuple[np.ndarray, np.ndarray]:
    """The cosine transform's matrix, and where its 64 lowest frequencies but the mean lie."""
    steps = np.arange(_SIDE)
    waves = np.cos(np.pi * np.outer(steps, steps + 0.5) / _SIDE)
    distance = (steps[:, None] ** 2 + steps**2).ravel()
    return waves, np.argsort(distance, kind="stable")[1:65]


def _alike(small: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    one, other = (_centred(small[pairs[:, side]]) for side in (0, 1))
    contrasts = np.sqrt((one**2).mean(axis=1)), np.sqrt((other**2).mean(axis=1))
    lower, higher = np.minimum(*contrasts), np.maximum(*contrasts)
    product = (one * other).mean(axis=1)
    # What is left between them once both have the lower one's contrast.
    apart = 2.0 * lower**2 - 2.0 * product * lower / np.maximum(higher, 1e-6)
    found: np.ndarray = np.sqrt(np.maximum(apart, 0.0)) <= 1.5 + 0.12 * lower
    found &= higher <= 2.0 * lower + 1.0
    return found


def _centred(small: np.ndarray) -> np.ndarray:
    """N x values, the mean of each channel taken away."""
    values = small.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    return values.reshape(len(values), -1)


def _spread(
    rows: np.ndarray, first: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each row as often as it counts, beside first, first + 1, first + 2 ..."""
    counts = np.maximum(counts, 0)
    before = np.cumsum(counts) - counts
    offsets = np.arange(int(counts.sum())) - np.repeat(before, counts)
    return np.repeat(rows, counts), np.repeat(first, counts) + offsets


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Bits set in each uint64, added up in pairs, fours, eights and all bytes."""
    pairs, fours, eights, ones = (
        np.uint64(mask * 0x0101010101010101) for mask in (0x55, 0x33, 0x0F, 0x01)
    )
    values = values - ((values >> np.uint64(1)) & pairs)
    values = (values & fours) + ((values >> np.uint64(2)) & fours)
    values = (values + (values >> np.uint64(4))) & eights
    counts: np.ndarray = (values * ones) >> np.uint64(56)
    return counts
