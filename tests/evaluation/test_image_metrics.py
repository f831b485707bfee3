"""Image metrics: PSNR against torchmetrics, properties of the distance, test images compared."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from cyclegan.data.files.images import to_image, to_tensor
from cyclegan.data.files.sources import DataSources
from cyclegan.evaluation.compare import TranslationMetrics, compare
from cyclegan.evaluation.image_metrics import psnr, sliced_wasserstein
from cyclegan.translate.translator import Translator


def pictures(count: int, side: int = 48, *, seed: int = 0) -> list[Tensor]:
    """Smooth shapes with fine grain: edges and detail at every level of a pyramid."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        coarse = torch.rand(1, 3, 6, 6, generator=generator) * 1.6 - 0.8
        grain = torch.rand(3, side, side, generator=generator) * 0.4 - 0.2
        made.append(nn.functional.interpolate(coarse, side, mode="nearest")[0] + grain)
    return made


def blurred(images: list[Tensor], radius: float) -> list[Tensor]:
    return [to_tensor(to_image(i).filter(ImageFilter.GaussianBlur(radius))) for i in images]


def test_psnr_agrees_with_torchmetrics() -> None:
    image, reference = pictures(2)
    expected = peak_signal_noise_ratio(image, reference, data_range=2.0)
    assert psnr(image, reference) == pytest.approx(float(expected), rel=1e-6)


def test_psnr_of_one_gray_level_off_is_48_db() -> None:
    # 20 log10(255): an error of 1 in a range of 255.
    image = torch.zeros(3, 8, 8)
    assert psnr(image, image + 2 / 255) == pytest.approx(20 * math.log10(255), rel=1e-4)


def test_psnr_of_equal_images_is_infinite() -> None:
    image = pictures(1)[0]
    assert psnr(image, image) == math.inf


def test_equal_sets_are_at_distance_zero() -> None:
    images = pictures(3)
    assert sliced_wasserstein(images, images) == 0


def test_the_distance_is_symmetric() -> None:
    images, others = pictures(3), pictures(3, seed=1)
    forth, back = sliced_wasserstein(images, others), sliced_wasserstein(others, images)
    assert forth == pytest.approx(back, rel=1e-5)
    assert forth > 0


def test_the_distance_grows_with_blur() -> None:
    images = pictures(4)
    distances = [sliced_wasserstein(blurred(images, radius), images) for radius in (0.5, 1, 2)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_sets_of_one_kind_are_nearer_than_sets_of_another() -> None:
    images, alike = pictures(8), pictures(8, seed=1)
    assert 2 * sliced_wasserstein(images, alike) < sliced_wasserstein(images, blurred(alike, 2))


def test_unequal_counts_are_measured_like_equal_ones() -> None:
    images, others = pictures(4), blurred(pictures(4, seed=1), 2)
    few, many = sliced_wasserstein(images[:2], others), sliced_wasserstein(images, others)
    assert few == pytest.approx(many, rel=0.2)
    assert sliced_wasserstein(others, images[:2]) == pytest.approx(few, rel=1e-5)


def test_single_patches_have_their_projected_distance() -> None:
    """Images of one patch each: E |<direction, a - b>| over the unit sphere in n dimensions is
    |a - b| sqrt(2 / (pi n)), to the accuracy of 512 directions (3 %).
    """
    a, b = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(2))
    a, b = ((i - i.mean((1, 2), keepdim=True)) / i.std((1, 2), keepdim=True) for i in (a, b))
    expected = 1000 * float((a - b).norm()) * math.sqrt(2 / (math.pi * 147))
    assert sliced_wasserstein([a], [b]) == pytest.approx(expected, rel=0.12)


def test_the_scale_of_colours_does_not_count() -> None:
    images = pictures(3)
    assert sliced_wasserstein([0.5 * image + 0.1 for image in images], images) < 1


@pytest.mark.parametrize("side", [1, 3, 6, 7, 15, 31])
def test_small_images_are_measured(side: int) -> None:
    images, others = pictures(2, side), pictures(2, side, seed=1)
    assert math.isfinite(sliced_wasserstein(images, others))
    assert sliced_wasserstein(images, images) == 0


def test_images_of_many_sizes_are_measured_together() -> None:
    images = [*pictures(2, 64), *pictures(1, 20)]
    assert math.isfinite(sliced_wasserstein(images, pictures(3, 33)))


def test_rounding_on_flat_images_is_no_distance() -> None:
    flat = [torch.full((3, 32, 32), 0.3)]
    assert sliced_wasserstein(flat, [torch.full((3, 32, 32), 0.7)]) < 5


def test_one_seed_gives_one_figure() -> None:
    images, others = pictures(2), pictures(2, seed=1)
    first = sliced_wasserstein(images, others, seed=3)
    torch.rand(7)
    assert sliced_wasserstein(images, others, seed=3) == first
    assert sliced_wasserstein(images, others, seed=4) != first


class Known(nn.Module):
    """Translates an image into the partner of the known image that is nearest to it."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.pairs = pairs

    def forward(self, image: Tensor) -> Tensor:
        return min(self.pairs, key=lambda pair: float((pair[0] - image).abs().max()))[1]


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[DataSources, list[Image.Image], list[Image.Image]]:
    """testA has blurred images, testB the same scenes, under the same names but other suffixes."""
    sharp = [to_image(image) for image in pictures(3, 32)]
    blurry = [image.filter(ImageFilter.GaussianBlur(1)) for image in sharp]
    for folder, images, names in (
        ("testA", blurry, ("a.b.png", "a.png", "c.png")),
        ("testB", sharp, ("a.b.png", "a.BMP", "c.bmp")),
    ):
        (tmp_path / folder).mkdir()
        for image, name in zip(images, names, strict=True):
            image.save(tmp_path / folder / name)
    return DataSources(dataroot=tmp_path), blurry, sharp


def translator(network: nn.Module) -> Translator:
    return Translator(network, device=torch.device("cpu"))


def test_an_identity_is_no_nearer_than_its_input(scenes) -> None:
    sources, _, _ = scenes
    result = compare(sources, translator(nn.Identity()))
    assert result is not None
    assert result.images == 3
    assert result.nearer == 0
    assert result.psnr_fake == result.psnr_input


def test_a_perfect_translation_is_at_distance_zero(scenes) -> None:
    sources, blurry, sharp = scenes
    pairs = [(to_tensor(a)[None], to_tensor(b)[None]) for a, b in zip(blurry, sharp, strict=True)]
    result = compare(sources, translator(Known(pairs)))
    assert result is not None
    assert result.nearer == 1
    assert result.swd_input > 0
    assert result.psnr_fake == math.inf
    assert result.psnr_input is not None
    expected = [peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in pairs]
    assert result.psnr_input == pytest.approx(float(sum(expected)) / 3, rel=1e-5)


def test_an_input_of_another_size_is_compared_at_its_partners(scenes) -> None:
    sources, blurry, _ = scenes
    for image, name in zip(blurry, ("a.b.png", "a.png", "c.png"), strict=True):
        image.resize((16, 16)).save(sources.dataroot / "testA" / name)
    result = compare(sources, translator(nn.Identity()))
    assert result is not None
    assert result.psnr_input is not None


def test_names_that_do_not_pair_up_give_no_psnr(scenes) -> None:
    sources, blurry, _ = scenes
    blurry[0].save(sources.dataroot / "testA" / "more.png")
    result = compare(sources, translator(nn.Identity()))
    assert result is not None
    assert result.images == 4
    assert result.psnr_input is result.psnr_fake is None
    assert len(result.describe()) == 1


def test_an_unreadable_test_image_is_left_out_with_its_partner(scenes) -> None:
    sources, _, _ = scenes
    (sources.dataroot / "testB" / "c.bmp").write_text("not an image")
    result = compare(sources, translator(nn.Identity()))
    assert result is not None
    assert result.images == 2
    assert result.psnr_input is not None


def test_without_test_images_there_is_nothing_to_compare(tmp_path: Path) -> None:
    sources = DataSources(dataroot=tmp_path)
    assert compare(sources, translator(nn.Identity())) is None
    for folder in ("testA", "testB"):
        (tmp_path / folder).mkdir()
    assert compare(sources, translator(nn.Identity())) is None


def test_a_translation_that_is_farther_says_so() -> None:
    lines = TranslationMetrics(
        images=2, swd_input=10.0, swd_fake=15.0, psnr_input=20.0, psnr_fake=19.5
    ).describe()
    assert "50 % farther" in lines[0]
    assert "-0.50" in lines[1]
