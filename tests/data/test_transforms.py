"""Resizing, cropping and mirroring of images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.images import to_tensor
from cyclegan.data.loading.transforms import ImageTransform


def transform(
    image, *, seed=0, preprocess="resize_and_crop", load_size=40, crop_size=32, flip=True
):
    transform = ImageTransform(preprocess, load_size, crop_size, flip)
    return sample(transform, image, np.random.default_rng(seed))


def sample(transform, image, random) -> torch.Tensor:
    pixels, flip = transform.crop(np.asarray(transform.resize(image)), random)
    crop = Image.fromarray(pixels)
    return to_tensor(ImageOps.mirror(crop) if flip else crop)


def gradient(width: int, height: int) -> Image.Image:
    """An image whose red is the column and whose green is the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def place(crop: torch.Tensor) -> tuple[int, int]:
    """Column and row of a gradient's crop."""
    pixels = ((crop.numpy() + 1) * 127.5).round()
    return int(pixels[0].min()), int(pixels[1].min())


def mirrored(crop: torch.Tensor) -> bool:
    return bool(crop[0, 0, 0] > crop[0, 0, -1])


@pytest.mark.parametrize("size", [(100, 30), (17, 90), (40, 40)])
def test_resizing_is_pillows_antialiased_bicubic_whatever_the_shape(picture, size):
    image = picture(size)
    expected = np.asarray(image.resize((40, 40), Image.Resampling.BICUBIC))
    result = transform(image, preprocess="resize", flip=False)
    assert np.abs((result.permute(1, 2, 0).numpy() + 1) * 127.5 - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("preprocess", "size", "shape"),
    [
        ("resize_and_crop", (100, 30), (32, 32)),
        ("crop", (100, 60), (32, 32)),
        ("crop", (32, 32), (32, 32)),
        ("resize", (100, 30), (40, 40)),
        ("scale_width", (80, 160), (80, 40)),
        ("scale_width", (80, 20), (32, 40)),  # never lower than a crop
        ("scale_width_and_crop", (80, 160), (32, 32)),
        ("scale_width_and_crop", (80, 20), (32, 32)),
        ("none", (48, 40), (40, 48)),
        ("none", (253, 257), (256, 252)),
        ("none", (1, 1), (4, 4)),
    ],
)
def test_each_preprocessing_gives_its_shape(picture, preprocess, size, shape):
    assert transform(picture(size), preprocess=preprocess).shape == (3, *shape)


def test_an_image_of_the_right_size_is_unchanged(picture):
    result = transform(picture((48, 40)), preprocess="none", flip=False)
    assert (((result.permute(1, 2, 0) + 1) * 127.5).round().numpy() == np.asarray(picture())).all()


def test_a_crop_is_a_part_of_the_image_without_padding():
    image = gradient(50, 60)
    for seed in range(20):
        crop = transform(image, seed=seed, preprocess="crop", flip=False)
        left, top = place(crop)
        expected = np.asarray(image)[top : top + 32, left : left + 32]
        pixels = ((crop.permute(1, 2, 0) + 1) * 127.5).round()
        assert (pixels.numpy() == expected).all()


def test_a_crop_is_a_view_of_the_image(picture):
    transform = ImageTransform("crop", 0, 32, True)
    pixels = np.asarray(picture((50, 60)))
    crop, _ = transform.crop(pixels, np.random.default_rng(0))
    assert np.shares_memory(crop, pixels)


def test_an_image_smaller_than_its_crop_is_padded_with_black(picture):
    crop = transform(picture((20, 40)), preprocess="crop", flip=False)
    assert crop.shape == (3, 32, 32)
    assert (crop[:, :, 20:] == -1).all()
    assert (crop[:, :, :20] > -1).any()


@pytest.mark.parametrize(
    "preprocess",
    ["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "resize", "none"],
)
@pytest.mark.parametrize("size", [(100, 30), (33, 90), (253, 257)])
def test_the_size_is_known_without_the_image(picture, preprocess, size):
    transform = ImageTransform(preprocess, 40, 32, True)
    assert transform.resized_size(*size) == transform.resize(picture(size)).size


def test_the_cache_key_depends_only_on_the_resizing():
    def key(*options):
        return ImageTransform(*options).cache_key

    assert key("resize_and_crop", 40, 32, True) == key("resize_and_crop", 40, 24, False, 8)
    assert key("resize_and_crop", 40, 32, True) != key("resize_and_crop", 48, 32, True)
    assert key("crop", 40, 32, True) == key("crop", 48, 24, True, 8)
    assert key("crop", 40, 32, True) != key("none", 40, 32, True)
    assert key("none", 40, 32, True) != key("none", 40, 32, True, 8)
    assert key("scale_width", 40, 32, True) != key("scale_width", 40, 24, True)
    assert key("resize", 40, 32, True) != key("resize_and_crop", 40, 32, True)


def test_crops_are_uniformly_distributed():
    image = gradient(34, 33)
    transform = ImageTransform("crop", 0, 32, False)
    random = np.random.default_rng(0)
    found = [place(sample(transform, image, random)) for _ in range(300)]
    counts = [found.count((left, top)) for left in range(3) for top in range(2)]
    assert sum(counts) == 300
    # Fifty each, give or take four standard deviations.
    assert all(abs(count - 50) < 26 for count in counts)


def test_half_of_the_images_are_mirrored():
    image = gradient(40, 40)
    count = sum(mirrored(transform(image, seed=seed)) for seed in range(200))
    assert 70 < count < 130


def test_no_flip_mirrors_no_image():
    image = gradient(40, 40)
    assert not any(mirrored(transform(image, seed=seed, flip=False)) for seed in range(20))


def test_mirroring_does_not_move_the_crop():
    image = gradient(60, 60)
    for seed in range(10):
        plain = transform(image, seed=seed, preprocess="crop", flip=False)
        assert place(plain) == place(transform(image, seed=seed, preprocess="crop", flip=True))


def test_the_same_random_state_gives_the_same_crop(picture):
    assert torch.equal(transform(picture(), seed=3), transform(picture(), seed=3))
    assert not torch.equal(transform(picture(), seed=3), transform(picture(), seed=4))


def from_options(settings: TrainSettings, domain: str) -> ImageTransform:
    return ImageTransform(**settings.transform_options(domain))


def test_the_options_reach_the_transform():
    settings = TrainSettings(preprocess="crop", load_size=70, crop_size=60, no_flip=True)
    assert from_options(settings, "A") == ImageTransform("crop", 70, 60, False)


def test_with_a_scale_A_is_resized_to_smaller_sizes():
    settings = TrainSettings(preprocess="crop", load_size=90, crop_size=60, scale=3)
    assert from_options(settings, "A") == ImageTransform("crop", 30, 20, True, multiple=4)
    assert from_options(settings, "B") == ImageTransform("crop", 90, 60, True, multiple=12)
