"""Losses that compare two images: what holds for all, and pixels and structure by other means."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.losses import IMAGE_LOSSES
from cyclegan.losses.pixel import Charbonnier, Gradient, TotalVariation
from cyclegan.losses.structural import SSIM, MultiscaleSSIM

# Those that need no weights of a network: the others have tests of their own.
NAMES = [name for name in IMAGE_LOSSES if name not in ("vgg", "lpips")]
COMPARING = [name for name in NAMES if name != "tv"]
SMOOTH = ["l2", "charbonnier", "ssim", "ms_ssim", "tv(power=2)", "fft(alpha=0)"]
SIZES = [(16, 16), (8, 8), (9, 13), (17, 31), (8, 40), (45, 45)]

size_names = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


def part(expression: str):
    return parts.build(expressions.parse_one(expression, option="cycle"), IMAGE_LOSSES)


def images(seed: int, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*(size or (2, 3, 16, 16)), generator=generator, dtype=dtype) * 2 - 1


def gradient(loss, input: Tensor, target: Tensor) -> Tensor:
    input = input.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(input, target), input)
    return found


@size_names
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_one_finite_positive_number(name: str, channels: int, size) -> None:
    value = part(name)(images(0, 2, channels, *size), images(1, 2, channels, *size))
    assert value.shape == ()
    assert value.isfinite()
    assert value > 0


@pytest.mark.parametrize("name", COMPARING)
def test_a_loss_is_least_for_equal_images(name: str) -> None:
    loss = part(name)
    least = 1e-3 if name == "charbonnier" else 0.0
    assert float(loss(images(0), images(0))) == pytest.approx(least, abs=1e-6)
    assert loss(images(0), images(1)) > least + 1e-3


@size_names
@pytest.mark.parametrize("other", [0, 1], ids=["equal", "different"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite(name: str, other: int, size) -> None:
    found = gradient(part(name), images(0, 2, 3, *size), images(other, 2, 3, *size))
    assert found.isfinite().all()
    assert other == 0 or found.abs().sum() > 0


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_flat_images_are_no_trouble(name: str, level: float) -> None:
    flat = torch.full((1, 3, 16, 16), level)
    assert float(part(name)(flat, flat)) == pytest.approx(0, abs=1.001e-3)
    assert gradient(part(name), flat, flat).isfinite().all()
    assert gradient(part(name), flat, images(1, 1, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    pair = [images(seed, 1, 1, 8, 8, dtype=torch.float64) for seed in (0, 1)]
    # Alike, so that no contrast is negative.
    pair[1] = (pair[0] + 0.2 * pair[1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda image: part(name)(image, pair[0]), pair[1])


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_stays_double(name: str) -> None:
    pair = [images(seed, dtype=torch.float64) for seed in (0, 1)]
    value = part(name)(*pair)
    assert value.dtype == torch.float64
    single = part(name)(*(image.float() for image in pair))
    assert float(single) == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_to_bfloat16_keeps_the_value(name: str) -> None:
    # Values that bfloat16 holds exactly: what differs is the loss's own arithmetic.
    pair = [images(seed).bfloat16() for seed in (0, 1)]
    expected = part(name)(*(image.float() for image in pair))
    with torch.autocast("cpu", torch.bfloat16):
        value = part(name)(*pair)
        found = gradient(part(name), *pair)
    assert float(value) == pytest.approx(float(expected), rel=2e-2)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_repeated_in_the_batch_changes_nothing(name: str) -> None:
    one, other = images(0, 1, 3, 16, 16), images(1, 1, 3, 16, 16)
    batch = part(name)(one.repeat(3, 1, 1, 1), other.repeat(3, 1, 1, 1))
    assert float(batch) == pytest.approx(float(part(name)(one, other)), rel=1e-5)


@pytest.mark.parametrize("name", COMPARING)
def test_either_image_may_come_first(name: str) -> None:
    there, back = (part(name)(images(a), images(1 - a)) for a in (0, 1))
    assert float(there) == pytest.approx(float(back), rel=1e-5)


@pytest.mark.parametrize("name", ["gradient", "gradient(operator=difference)", "wavelet", "l1"])
def test_a_difference_twice_as_large_counts_twice(name: str) -> None:
    near, far = (part(name)(scale * images(0), scale * images(1)) for scale in (0.5, 1.0))
    assert float(far) == pytest.approx(2 * float(near), rel=1e-5)


@pytest.mark.parametrize(
    "expression",
    [
        *("charbonnier(eps=0)", "charbonnier(eps=-1)", "charbonnier(eps=small)"),
        *("charbonnier(eps=true)", "charbonnier(eps=1e999)"),
        *("gradient(operator=prewitt)", "gradient(operator=3)", "gradient(operator=[1])"),
        *("tv(power=3)", "tv(power=0)", "tv(power=true)", "tv(power=two)", "tv(power=[1])"),
        *("ssim(window=10)", "ssim(window=0)", "ssim(window=7.0)", "ssim(window=a)"),
        *("ssim(sigma=0)", "ssim(sigma=wide)", "ms_ssim(window=2)", "ms_ssim(sigma=-1)"),
        *("ms_ssim(scales=6)", "ms_ssim(scales=0)", "ms_ssim(scales=1.5)"),
        *("color(size=0)", "color(size=-1)", "color(size=2.5)", "color(size=a)"),
        *("color(size=true)", "fft(alpha=-1)", "fft(alpha=a)", "fft(alpha=None)"),
        *("wavelet(levels=0)", "wavelet(levels=two)", "wavelet(levels=99)"),
        *("wavelet(approximation=1)", "wavelet(approximation=no)"),
        *("laplacian_pyramid(levels=0)", "laplacian_pyramid(levels=1.5)"),
    ],
)
def test_a_bad_option_is_named_with_its_value(expression: str) -> None:
    name, _, option = expression.rstrip(")").partition("(")
    written = option.partition("=")[0]
    with pytest.raises(
        UserError, match=rf"--cycle: {name} cannot be made: {written}=\S+ (must|is)"
    ):
        part(expression)


def test_charbonnier_by_hand() -> None:
    input = torch.tensor([[[[0.3, -0.4]]]])
    loss = Charbonnier(eps=0.4)(input, torch.zeros_like(input))
    assert float(loss) == pytest.approx((0.5 + 0.4 * math.sqrt(2)) / 2)


def test_sobel_gives_the_slope_of_a_ramp() -> None:
    ramp = (0.05 * torch.arange(12.0)).repeat(10, 1)[None, None]
    # Nine pixels a row lie inside; the outermost two have half their slope, borders being repeated.
    expected = 0.05 * (10 + 2 * 0.5) / 12
    assert float(Gradient()(ramp, torch.zeros_like(ramp))) == pytest.approx(expected)
    assert float(Gradient()(ramp.mT, torch.zeros_like(ramp.mT))) == pytest.approx(expected)


def test_sobel_agrees_with_its_kernels() -> None:
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    padded = torch.nn.functional.pad(images(0) - images(1), (1, 1, 1, 1), mode="replicate")
    conv = functools.partial(torch.nn.functional.conv2d, groups=3)
    slopes = [conv(padded, k.expand(3, 1, 3, 3)).abs().mean() for k in (kernel, kernel.mT)]
    assert float(Gradient()(images(0), images(1))) == pytest.approx(float(sum(slopes)), rel=1e-5)


def test_edges_of_neighbours_agree_with_numpy() -> None:
    change = (images(0) - images(1)).numpy()
    expected = np.abs(np.diff(change, axis=3)).mean() + np.abs(np.diff(change, axis=2)).mean()
    loss = Gradient(operator="difference")(images(0), images(1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_edges_do_not_see_brightness() -> None:
    for operator in ("sobel", "difference"):
        assert float(Gradient(operator)(images(0), images(0) + 0.25)) < 1e-6


@pytest.mark.parametrize("power", [1, 2])
def test_total_variation_agrees_with_numpy_and_ignores_the_target(power: int) -> None:
    image = images(0).numpy()
    across, down = (np.abs(np.diff(image, axis=axis)) ** power for axis in (3, 2))
    for target in (images(0), images(1)):
        loss = TotalVariation(power)(images(0), target)
        assert float(loss) == pytest.approx(float(across.mean() + down.mean()), rel=1e-5)


def means(image: np.ndarray, window: int, sigma: float) -> np.ndarray:
    """Gaussian means of an H x W image with reflected borders, one pixel after the other."""
    reach = window // 2
    at = np.arange(window) - reach
    kernel = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * sigma**2))
    padded = np.pad(image, reach, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    return (windows * kernel).sum(axis=(-2, -1)) / kernel.sum()


def similarities(x: np.ndarray, y: np.ndarray, window: int, sigma: float):
    m = functools.partial(means, window=window, sigma=sigma)
    covariance = m(x * y) - m(x) * m(y)
    variances = m(x * x) - m(x) ** 2 + m(y * y) - m(y) ** 2
    luminance = (2 * m(x) * m(y) + 0.0001) / (m(x) ** 2 + m(y) ** 2 + 0.0001)
    return luminance, (2 * covariance + 0.0009) / (variances + 0.0009)


def alike(size: int) -> tuple[Tensor, Tensor]:
    """A pair in double precision, about as alike as a reconstruction."""
    x = torch.nn.functional.interpolate(
        images(0, 2, 1, 8, 8, dtype=torch.float64), (size, size), mode="bicubic"
    ).clamp(-1, 1)
    return x, (x + 0.1 * images(1, 2, 1, size, size, dtype=torch.float64)).clamp(-1, 1)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, 1.5), (3, 0.8)])
def test_ssim_agrees_with_straight_formulas(window: int, sigma: float) -> None:
    x, y = alike(24)
    pairs = [((a[0].numpy() + 1) / 2, (b[0].numpy() + 1) / 2) for a, b in zip(x, y, strict=True)]
    expected = 1 - np.mean([np.prod(similarities(*pair, window, sigma), axis=0) for pair in pairs])
    assert float(SSIM(window, sigma)(x, y)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("size", [16, 33])
def test_ssim_agrees_with_torchmetrics(size: int) -> None:
    x, y = ((image.repeat(1, 3, 1, 1) + 1) / 2 for image in alike(size))
    expected = 1 - structural_similarity_index_measure(x, y, data_range=1.0)
    assert float(SSIM()(2 * x - 1, 2 * y - 1)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("size", "scales"), [(47, 3), (22, 2), (16, 1)])
def test_multiscale_ssim_agrees_with_straight_formulas(size: int, scales: int) -> None:
    x, y = alike(size)
    shares = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    values = []
    for a, b in zip(x, y, strict=True):
        pair = [(image[0].numpy() + 1) / 2 for image in (a, b)]
        value = 1.0
        for scale, share in enumerate(shares / shares.sum(), start=1):
            luminance, contrast = similarities(*pair, 11, 1.5)
            value *= np.mean(contrast * (luminance if scale == scales else 1)) ** share
            half = [len(image) // 2 for image in pair]
            pair = [
                image[: 2 * n, : 2 * n].reshape(n, 2, n, 2).mean(axis=(1, 3))
                for image, n in zip(pair, half, strict=True)
            ]
        values.append(value)
    assert float(MultiscaleSSIM()(x, y)) == pytest.approx(1 - np.mean(values), rel=1e-9)


def test_multiscale_ssim_is_near_that_of_torchmetrics_which_cuts_the_borders_of_contrasts() -> None:
    x, y = alike(192)
    expected = 1 - multiscale_structural_similarity_index_measure(
        (x + 1) / 2, (y + 1) / 2, data_range=1.0
    )
    assert float(MultiscaleSSIM()(x, y)) == pytest.approx(float(expected), rel=0.1)


def test_multiscale_ssim_of_opposites_is_near_its_end_and_leads_away_from_it() -> None:
    x = images(0, 1, 3, 32, 32)
    value = MultiscaleSSIM()(-x, x)
    assert 0.95 < float(value) < 1
    step = gradient(MultiscaleSSIM(), -x, x)
    assert MultiscaleSSIM()(-x - step / step.abs().max() / 10, x) < value
