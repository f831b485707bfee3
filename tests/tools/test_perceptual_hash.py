"""The hash that finds a changed picture again, and the search for similar hashes."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from cyclegan.tools.doctor.perceptual_hash import (
    MAX_DISTANCE,
    SMALL,
    connected,
    near_pairs,
    perceptual_hash,
    resemble,
)


def found(hashes: list[int], max_distance: int = MAX_DISTANCE) -> set[tuple[int, int]]:
    pairs = near_pairs(np.array(hashes, dtype=np.uint64), max_distance=max_distance)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    return {(low, high) for low, high in pairs.tolist() if low < high}


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BILINEAR))


def one_picture(first: Image.Image, second: Image.Image) -> bool:
    bits = (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()
    both = np.stack([small(first), small(second)])
    return bits <= MAX_DISTANCE and bool(resemble(both, np.array([[0, 1]]))[0])


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "square": lambda image: image.resize((286, 286)),
    "jpeg": compressed,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(5))
def test_a_changed_copy_is_still_the_picture(picture, change: str, seed: int) -> None:
    image = picture((160, 128), seed=seed)
    assert one_picture(image, CHANGES[change](image))


def test_other_pictures_do_not_match(picture) -> None:
    images = [picture((160, 128), seed=seed) for seed in range(20)]
    pairs = [(one, other) for i, one in enumerate(images) for other in images[:i]]
    assert not any(one_picture(one, other) for one, other in pairs)


def test_a_mirrored_picture_is_another(picture) -> None:
    image = picture((160, 128))
    assert not one_picture(image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def test_a_hash_has_64_bits_half_of_them_set(picture) -> None:
    hashes = [perceptual_hash(picture(seed=seed)) for seed in range(10)]
    assert all(0 <= value < 2**64 and value.bit_count() == 32 for value in hashes)


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_what_comparing_all_with_all_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    hashes = [int(value) for value in random.integers(0, 2**64, 60, dtype=np.uint64)]
    # Neighbours at every distance about the bound, their bits anywhere.
    for distance in range(1, 12):
        bits = random.choice(64, distance, replace=False)
        hashes.append(hashes[distance] ^ sum(1 << int(bit) for bit in bits))
    near = {
        (i, j)
        for j in range(len(hashes))
        for i in range(j)
        if (hashes[i] ^ hashes[j]).bit_count() <= MAX_DISTANCE
    }
    assert len(near) >= MAX_DISTANCE
    assert found(hashes) == near


def test_thousands_of_equal_hashes_stay_together_by_few_pairs() -> None:
    pairs = found([5] * 3000)
    assert connected(pairs) == [list(range(3000))]
    assert len(pairs) < 3000 * 40


def test_the_largest_distance_can_be_given() -> None:
    assert found([0, 0b111], max_distance=2) == set()
    assert found([0, 0b111], max_distance=3) == {(0, 1)}


@pytest.mark.parametrize("hashes", [[], [7]])
def test_no_hash_and_one_hash_have_no_pairs(hashes: list[int]) -> None:
    assert found(hashes) == set()


def test_what_pairs_connect_is_one_group() -> None:
    assert connected([(4, 2), (7, 9), (2, 1), (9, 8)]) == [[1, 2, 4], [7, 8, 9]]
    assert connected([]) == []
