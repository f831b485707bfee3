"""The degradations: kernels, noise and sizes against mathematics, and reproducibility."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan.config import expressions, parts
from cyclegan.networks.generators.bicubic import crop_to_multiple, downscale, upscale
from cyclegan.tools.degrade.classical import (
    KINDS,
    Classical,
    compress,
    draw_quality,
    filter_image,
    gaussian_kernel,
    gaussian_noise,
)
from cyclegan.tools.degrade.photographs import degrade_files, find_jobs, image_generator
from cyclegan.tools.degrade.real_esrgan import SecondOrder, poisson_noise, sinc_kernel


def build(kind: str, scale: int):
    return parts.build(expressions.Term(kind), KINDS, scale=scale)


def degraded(folder: Path, output: Path, *, kind: str, seed: int = 0, threads: int = 1):
    jobs = find_jobs(folder, output / "A", output / "B")
    results = degrade_files(jobs, build(kind, 2), scale=2, seed=seed, num_threads=threads)
    assert not any(results)
    return {path.name: path.read_bytes() for path in sorted((output / "A").iterdir())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("times", [1, 2, 9])
def test_every_kind_makes_every_size_exactly_that_many_times_smaller(picture, kind, scale, times):
    image = picture((scale * times, scale * (times + 1)))
    for seed in range(3):
        small = build(kind, scale)(image, np.random.default_rng(seed))
        assert (small.size, small.mode) == ((times, times + 1), "RGB")


@pytest.mark.parametrize("kind", KINDS)
def test_neither_other_images_nor_threads_change_an_image(tmp_path: Path, make_images, kind):
    paths = make_images(tmp_path / "in", 4)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / paths[2].name).write_bytes(paths[2].read_bytes())
    one = degraded(tmp_path / "in", tmp_path / "1", kind=kind)
    many = degraded(tmp_path / "in", tmp_path / "4", kind=kind, threads=4)
    assert one == many
    assert degraded(alone, tmp_path / "0", kind=kind) == {paths[2].name: one[paths[2].name]}


@pytest.mark.parametrize("kind", ["classical", "real"])
def test_another_seed_and_another_name_give_another_degradation(tmp_path, make_images, kind):
    first, second = make_images(tmp_path / "in", 2)
    second.write_bytes(first.read_bytes())
    zero = degraded(tmp_path / "in", tmp_path / "0", kind=kind)
    one = degraded(tmp_path / "in", tmp_path / "1", kind=kind, seed=1)
    assert len({*zero.values(), *one.values()}) == 4


def test_classical_without_blur_noise_and_jpeg_is_bicubic(picture):
    image = picture((32, 24))
    plain = Classical(scale=2, blur=None, noise=None, jpeg=None)
    small = plain(image, np.random.default_rng(0))
    assert (np.asarray(small) == np.asarray(downscale(image, 2))).all()


def test_blur_removes_detail_and_noise_adds_some():
    levels = np.random.default_rng(1).integers(60, 200, (96, 96, 3), dtype=np.uint8)

    def grain(**options) -> float:
        ranges = {"blur": None, "noise": None, "jpeg": None, **options}
        small = Classical(scale=2, **ranges)(Image.fromarray(levels), np.random.default_rng(0))
        return float(np.abs(np.diff(np.asarray(small).astype(float), axis=1)).mean())

    assert grain(blur=(2, 2)) < 0.9 * grain() < 0.9 * grain(noise=(10, 10))


@pytest.mark.parametrize("size", [(40, 30), (1, 1), (41, 31)])
def test_enlarging_multiplies_both_sides(picture, size):
    assert upscale(picture(size), 3).size == (3 * size[0], 3 * size[1])


def test_a_flat_image_stays_unchanged():
    image = Image.new("RGB", (12, 8), (200, 3, 77))
    assert upscale(downscale(image, 2), 2).getcolors() == [(96, (200, 3, 77))]


def test_an_image_smaller_than_the_scale_is_refused():
    with pytest.raises(ValueError, match="7x3 px cannot be made 4 times smaller"):
        crop_to_multiple(Image.new("RGB", (7, 3)), 4)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_a_gaussian_kernel_has_its_deviation(sigma):
    kernel = gaussian_kernel(sigma, side=41)
    places = np.arange(-20, 21)
    assert kernel.sum() == pytest.approx(1)
    for axis in (0, 1):
        assert (kernel.sum(axis) * places**2).sum() == pytest.approx(sigma**2, rel=0.01)


def test_a_turned_gaussian_has_its_covariance():
    sigma, across, angle = 3.0, 1.2, 0.6
    kernel = gaussian_kernel(sigma, across, angle=angle, side=51)
    y, x = np.mgrid[-25:26, -25:26]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = turn @ np.diag([sigma**2, across**2]) @ turn.T
    found = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    assert np.allclose(found, expected, rtol=0.01)


def test_a_deviation_of_zero_does_not_blur(picture):
    image = torch.rand(1, 3, 9, 9)
    assert torch.allclose(filter_image(image, gaussian_kernel(0.0)), image)


def test_filtering_spreads_a_point_by_the_kernel_and_reflects_borders():
    point = torch.zeros(1, 3, 7, 7)
    point[..., 3, 3] = 1
    kernel = gaussian_kernel(1.0, 2.0, angle=0.4, side=5)
    spread = filter_image(point, kernel)
    assert np.allclose(spread[0, 1, 1:6, 1:6], kernel[::-1, ::-1], atol=1e-6)
    # The mean of three pixels in the row 1 0 0, which is reflected to 0 1 0 0.
    row = torch.tensor([1.0, 0.0, 0.0]).expand(1, 3, 3, 3)
    mean = filter_image(row, np.full((3, 3), 1 / 9))
    assert torch.allclose(mean[0, 0, 0], torch.tensor([1 / 3, 1 / 3, 0.0]))


def test_a_sinc_kernel_passes_only_frequencies_below_its_cutoff():
    kernel = sinc_kernel(math.pi / 2, side=81)
    places = np.arange(-40, 41)
    line = kernel.sum(0)
    for frequency, passed in ((0.0, 1), (math.pi / 4, 1), (3 * math.pi / 4, 0)):
        assert (line * np.cos(frequency * places)).sum() == pytest.approx(passed, abs=0.05)
    assert kernel.min() < 0
    assert np.allclose(kernel, kernel.T)


def test_gaussian_noise_has_its_deviation_in_8_bit_values():
    noise = gaussian_noise(torch.zeros(1, 3, 100, 100), 12.0, np.random.default_rng(0))
    assert float(noise.std() * 127.5) == pytest.approx(12, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("level", [40, 160])
def test_poisson_noise_has_the_variance_of_counted_photons(level):
    image = torch.full((1, 3, 100, 100), level / 127.5 - 1)
    noise = poisson_noise(image, 0.5, np.random.default_rng(0)) * 127.5
    assert float(noise.var()) == pytest.approx(0.25 * level, rel=0.04)


@pytest.mark.parametrize("noise", [gaussian_noise, poisson_noise])
def test_gray_noise_is_the_same_in_every_channel(noise):
    image = torch.rand(1, 3, 20, 20) * 2 - 1
    added = noise(image, 2.0, np.random.default_rng(0), gray=True)
    assert added.shape == image.shape
    assert (added[:, 0] == added[:, 2]).all()
    assert added.std() > 0


def test_jpeg_qualities_include_both_ends():
    random = np.random.default_rng(0)
    assert {draw_quality((30, 33), random) for _ in range(200)} == {30, 31, 32, 33}


def test_a_lower_quality_changes_the_picture_more(picture):
    image = picture((64, 64))
    far, near = (
        np.abs(np.asarray(compress(image, quality)).astype(float) - np.asarray(image)).mean()
        for quality in (20, 95)
    )
    assert far > 1.5 * near > 0


def test_the_published_ranges_of_both_passes_are_the_defaults():
    real = SecondOrder(scale=4)
    assert (real.first.blur, real.second.blur) == ((0.2, 3.0), (0.2, 1.5))
    assert real.first.noise == (1.0, 30.0)
    assert real.second.noise == pytest.approx((1.0, 25.0))
    assert real.jpeg == (30, 95)


def test_without_blur_noise_and_jpeg_real_only_resizes():
    image = Image.new("RGB", (24, 24), (10, 200, 90))
    real = SecondOrder(scale=2, blur=None, noise=None, jpeg=None)
    for seed in range(8):
        small = real(image, np.random.default_rng(seed))
        assert small.getcolors() == [(144, (10, 200, 90))]


def test_image_generators_of_similar_names_differ():
    draws = {image_generator(seed, name).random() for seed in (0, 1) for name in ("a", "b", "é/a")}
    assert len(draws) == 6
    assert image_generator(0, "bad\udcff").random() == image_generator(0, "bad\udcff").random()
