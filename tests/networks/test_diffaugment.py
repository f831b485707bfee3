"""The augmentations of discriminators, each compared with a computation by hand."""

from typing import Any

import pytest
import torch
from support.networks import noise
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks import DIFFAUGMENTS
from cyclegan.networks.diffaugment import (
    AugmentedDiscriminator,
    RandomColor,
    RandomCutout,
    RandomTranslation,
)
from cyclegan.networks.discriminators.batch_head import BatchHeadDiscriminator
from cyclegan.networks.discriminators.patchgan import MultiscaleDiscriminator, PatchDiscriminator


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(text: str) -> Any:
    term = expressions.parse_one(text, option="diffaugment")
    return parts.build(term, DIFFAUGMENTS)


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """The shifted image, copied pixel by pixel."""
    output = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                output[..., y, x] = image[..., y - down, x - right]
    return output


@pytest.mark.parametrize(
    "text",
    ["translation(ratio=0)", "cutout(ratio=0)", "color(brightness=0, saturation=0, contrast=0)"],
)
def test_strength_0_changes_nothing(text: str) -> None:
    images = noise(4, 3, 9, 8)
    assert torch.equal(build(text)(images), images)


@pytest.mark.parametrize("name", DIFFAUGMENTS)
def test_every_image_draws_its_own_parameters(name: str) -> None:
    image = noise(1, 3, 16, 16)
    outputs = build(name)(image.repeat(32, 1, 1, 1))
    assert len({tuple(output.flatten().tolist()) for output in outputs}) > 16


@pytest.mark.parametrize("name", DIFFAUGMENTS)
def test_the_same_random_state_gives_the_same_augmentation(name: str) -> None:
    images, part = noise(4, 3, 16, 16), build(name)
    state = torch.get_rng_state()
    first = part(images)
    assert not torch.equal(part(images), first)
    torch.set_rng_state(state)
    assert torch.equal(part(images), first)


@pytest.mark.parametrize("name", DIFFAUGMENTS)
def test_gradients_equal_finite_differences_of_the_augmentation(name: str) -> None:
    images, part = noise(2, 3, 6, 8).double().requires_grad_(), build(name)

    def drawn_alike(batch: Tensor) -> Tensor:
        torch.manual_seed(3)
        return part(batch)

    assert torch.autograd.gradcheck(drawn_alike, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(drawn_alike, images, fast_mode=True)
    assert drawn_alike(images).shape == images.shape


@pytest.mark.parametrize("name", DIFFAUGMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_is_kept(name: str, dtype: torch.dtype) -> None:
    assert build(name)(noise(2, 3, 16, 16).to(dtype)).dtype == dtype


def test_translation_is_a_shift_by_up_to_its_ratio() -> None:
    images = noise(1, 3, 8, 12).repeat(300, 1, 1, 1)
    outputs = RandomTranslation(ratio=0.25)(images)
    # A quarter of 8 rows and of 12 columns.
    shifts = [(down, right) for down in range(-2, 3) for right in range(-3, 4)]
    expected = torch.stack([shifted(images[0], *shift) for shift in shifts])
    alike = (outputs[:, None] == expected[None]).flatten(2).all(dim=2)
    assert (alike.sum(dim=1) == 1).all()
    # 300 draws miss one of the 35 shifts with a probability below 1 %; the seed is fixed.
    assert alike.any(dim=0).all()


def test_translation_moves_by_an_eighth_at_most_by_default() -> None:
    images = torch.ones(200, 1, 16, 24)
    left = RandomTranslation()(images)
    assert left.sum(dim=(1, 2, 3)).min() == (16 - 2) * (24 - 3)
    assert left.sum(dim=(1, 2, 3)).max() == 16 * 24


@pytest.mark.parametrize(("height", "width"), [(16, 24), (6, 10)])
def test_cutout_removes_a_rectangle_of_half_the_sides(height: int, width: int) -> None:
    outputs = RandomCutout()(torch.ones(400, 3, height, width))
    cut = outputs[:, 0] == 0
    assert torch.equal(outputs, (~cut)[:, None].expand_as(outputs).float())
    rows, columns = cut.any(dim=2).sum(dim=1), cut.any(dim=1).sum(dim=1)
    assert torch.equal(cut.sum(dim=(1, 2)), rows * columns)
    for count, side in ((rows, height), (columns, width)):
        size = side // 2
        # The middle lies within the image, so that at least n // 2 of n pixels are cut.
        assert set(count.tolist()) == set(range(size // 2 + size % 2, size + 1))


def test_cutout_removes_the_expected_area_on_average() -> None:
    side, size = 12, 4
    # By hand: a span of 4 with its third pixel at 0, 1, ... 12.
    covered = [min(side, middle + 2) - max(0, middle - 2) for middle in range(side + 1)]
    expected = (sum(covered) / len(covered)) ** 2
    cut = RandomCutout(ratio=1 / 3)(torch.ones(4000, 1, side, side)) == 0
    areas = cut.sum(dim=(1, 2, 3)).float()
    assert float(areas.mean()) == pytest.approx(expected, abs=5 * float(areas.std()) / 4000**0.5)
    assert areas.max() == size**2


def test_brightness_adds_one_number_to_an_image() -> None:
    images = noise(500, 3, 2, 2)
    added = RandomColor(brightness=0.2, saturation=0, contrast=0)(images) - images
    by_image = added[:, 0, 0, 0]
    assert torch.allclose(added, by_image.view(-1, 1, 1, 1).expand_as(added), atol=1e-6)
    assert -0.2 <= by_image.min() < -0.19
    assert 0.19 < by_image.max() <= 0.2


def test_saturation_scales_the_distance_from_gray() -> None:
    # Gray is 0.2 and 0; the distances from it are 0.3, -0.1, -0.2 and 0.4, -0.4, 0.
    pixels = torch.tensor([[0.5, 0.1, 0.0], [0.4, -0.4, 0.0]])
    outputs = RandomColor(brightness=0, saturation=0.5, contrast=0)(
        pixels.T.reshape(1, 3, 1, 2).repeat(500, 1, 1, 1)
    )
    factor = outputs[:, 0, 0, 1] / 0.4
    assert 0.5 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5
    expected = torch.stack([0.2 + 0.3 * factor, 0.2 - 0.1 * factor, 0.2 - 0.2 * factor], dim=1)
    assert torch.allclose(outputs[:, :, 0, 0], expected, atol=1e-6)
    assert torch.allclose(outputs[:, 1, 0, 1], -0.4 * factor, atol=1e-6)
    assert torch.allclose(outputs[:, 2, 0, 1], torch.zeros(500), atol=1e-6)


def test_contrast_scales_the_distance_from_the_images_mean() -> None:
    # The mean of these is 0.1.
    image = torch.tensor([0.5, 0.1, 0.0, 0.4, -0.4, 0.0]).view(1, 3, 1, 2)
    outputs = RandomColor(brightness=0, saturation=0, contrast=0.5)(image.repeat(500, 1, 1, 1))
    factor = ((outputs[:, 0, 0, 0] - 0.1) / 0.4).view(-1, 1, 1, 1)
    assert 0.5 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5
    assert torch.allclose(outputs, 0.1 + (image - 0.1) * factor, atol=1e-6)


def test_color_has_the_published_order_and_strengths() -> None:
    image = noise(1, 3, 4, 4)
    torch.manual_seed(7)
    output = RandomColor()(image)
    torch.manual_seed(7)
    light, saturation, contrast = (float(torch.rand(1)) for _ in range(3))
    # Zhao et al. (2020): rand - 0.5, 2 rand, rand + 0.5.
    expected = image + (light - 0.5)
    gray = expected.mean(dim=1, keepdim=True)
    expected = (expected - gray) * (2 * saturation) + gray
    expected = (expected - expected.mean()) * (contrast + 0.5) + expected.mean()
    assert torch.allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        *(f"translation(ratio={value})" for value in ("-0.1", "1.1", "a", "true", "none", "[1]")),
        *(f"cutout(ratio={value})" for value in ("-0.1", "2", "half", "false")),
        *(f"color({name}=3)" for name in ("brightness", "saturation", "contrast")),
        *(f"color({name}=-1)" for name in ("brightness", "saturation", "contrast")),
        "color(contrast=low)",
    ],
)
def test_a_bad_strength_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a number from 0 to"):
        build(text)


def test_a_discriminator_sees_the_augmented_image_in_order() -> None:
    seen: list[Tensor] = []
    augmentations = [lambda image: image + 1, lambda image: 2 * image]
    AugmentedDiscriminator(seen.append, augmentations)(torch.zeros(1, 3, 2, 2))
    assert torch.equal(seen[0], torch.full((1, 3, 2, 2), 2.0))


def test_a_discriminator_with_queues_gets_the_kind_of_its_images() -> None:
    network = BatchHeadDiscriminator(2, layers=1)
    discriminator = AugmentedDiscriminator(network, [RandomTranslation(), RandomColor()])
    assert discriminator.keeps_queues is True
    discriminator(noise(2, 3, 12, 12), real=True)
    assert len(network.real_queue.features) == 2
    assert len(network.fake_queue.features) == 0


@pytest.mark.parametrize("network", [PatchDiscriminator(2), MultiscaleDiscriminator(2)])
def test_without_augmentations_it_is_the_discriminator(network: nn.Module) -> None:
    discriminator = AugmentedDiscriminator(network, [])
    images = noise(1, 3, 96, 96)
    assert discriminator.keeps_queues is False
    ours, plain = discriminator(images, real=True), network(images)
    assert type(ours) is type(plain)
    assert all(map(torch.equal, ours, plain))


def test_the_gradient_reaches_weights_and_image_through_augmentations() -> None:
    network = PatchDiscriminator(2)
    images = noise(2, 3, 32, 32).requires_grad_()
    augmentations = [build(name) for name in DIFFAUGMENTS]
    AugmentedDiscriminator(network, augmentations)(images).square().mean().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
