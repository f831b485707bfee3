"""Losses of the spectrum, against numpy and numbers by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cyclegan.losses.frequency import (
    FocalFrequency,
    LaplacianPyramid,
    LowFrequency,
    Wavelet,
    haar,
    laplacian_pyramid,
)


def images(seed: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = size or (2, 3, 16, 16)
    return torch.rand(*size, generator=generator, dtype=torch.float64) * 2 - 1


def checkers(side: int = 16) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((rows + columns) % 2 * 2.0 - 1)[None, None]


def test_low_frequency_by_hand() -> None:
    image = torch.tensor([[1.0, 3.0, 0.0, 0.0], [5.0, 7.0, 0.0, 0.0], [0.0] * 4, [1.0, -1.0, 2, 2]])
    # Averages of the four quarters: 4, 0, 0, 1.
    loss = LowFrequency(size=2)(image[None, None], torch.zeros(1, 1, 4, 4))
    assert float(loss) == pytest.approx((4 + 0 + 0 + 1) / 4)


def test_low_frequency_does_not_see_detail() -> None:
    assert float(LowFrequency(size=8)(checkers(), torch.zeros(1, 1, 16, 16))) < 1e-6


def test_low_frequency_sees_the_last_rows_and_columns() -> None:
    image = torch.zeros(1, 1, 3, 3)
    image[..., 2, 2] = 1.0
    # Windows of 2x2, 2x1, 1x2 and 1x1 pixels: only the last one differs, by 1.
    assert float(LowFrequency(size=2)(image, torch.zeros(1, 1, 3, 3))) == pytest.approx(0.25)


def test_low_frequency_averages_a_small_image_whole() -> None:
    image = torch.tensor([[[[1.0, 2.0, 6.0]]]])
    assert float(LowFrequency(size=8)(image, torch.zeros(1, 1, 1, 3))) == pytest.approx(3.0)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 3.0])
def test_focal_frequency_agrees_with_numpy(alpha: float) -> None:
    x, y = images(0, 2, 3, 9, 14), images(1, 2, 3, 9, 14)
    far = np.abs(np.fft.fft2(x.numpy(), norm="ortho") - np.fft.fft2(y.numpy(), norm="ortho"))
    weight = far**alpha / (far**alpha).max(axis=(2, 3), keepdims=True)
    expected = (weight * far**2).mean()
    assert float(FocalFrequency(alpha)(x, y)) == pytest.approx(float(expected), rel=1e-9)


def test_focal_frequency_without_focus_is_the_mean_squared_difference() -> None:
    expected = torch.nn.functional.mse_loss(images(0), images(1))
    assert float(FocalFrequency(0)(images(0), images(1))) == pytest.approx(float(expected))


def test_focal_frequencys_weights_take_part_in_no_gradient() -> None:
    x = images(0, 1, 1, 8, 8).requires_grad_()
    y = images(1, 1, 1, 8, 8)
    (found,) = torch.autograd.grad(FocalFrequency()(x, y), x)
    spectrum = np.fft.fft2((x.detach() - y).numpy(), norm="ortho")
    weight = np.abs(spectrum) / np.abs(spectrum).max()
    # The derivative of a mean of w |F d|^2 at fixed w, F being unitary.
    expected = 2 * np.fft.ifft2(weight * spectrum, norm="ortho").real / 64
    assert np.allclose(found.numpy(), expected, atol=1e-12)


def test_focal_frequency_survives_a_large_alpha_in_single_precision() -> None:
    x, y = 100 * images(0).float(), images(1).float()
    assert FocalFrequency(50)(x, y).isfinite()


def test_haar_of_two_by_two_pixels_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [4.0, 9.0]]]])
    detail, average = haar(image, levels=1)
    assert detail.flatten().tolist() == [
        (1 - 2 + 4 - 9) / 2,
        (1 + 2 - 4 - 9) / 2,
        (1 - 2 - 4 + 9) / 2,
    ]
    assert average.flatten().tolist() == [8.0]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_haar_is_the_product_with_its_matrix(levels: int) -> None:
    image = images(0, 1, 1, 16, 16)
    current = image[0, 0]
    *details, average = haar(image, levels=levels)
    for detail in details:
        side = len(current) // 2
        pair = torch.eye(side, dtype=torch.float64)
        low = torch.kron(pair, torch.tensor([[1.0, 1.0]], dtype=torch.float64)) / 2**0.5
        high = torch.kron(pair, torch.tensor([[1.0, -1.0]], dtype=torch.float64)) / 2**0.5
        bands = [low @ current @ high.T, high @ current @ low.T, high @ current @ high.T]
        assert torch.allclose(detail[0, :, 0], torch.stack(bands))
        current = low @ current @ low.T
    assert torch.allclose(average[0, 0], current)


def test_haar_keeps_the_energy() -> None:
    image = images(0)
    energy = sum(float(band.square().sum()) for band in haar(image, levels=3))
    assert energy == pytest.approx(float(image.square().sum()))


def test_haar_of_odd_sides_repeats_the_last_pixel() -> None:
    image = images(0, 1, 2, 7, 5)
    repeated = torch.cat([image, image[..., -1:]], dim=-1)
    repeated = torch.cat([repeated, repeated[..., -1:, :]], dim=-2)
    for odd, even in zip(haar(image, levels=1), haar(repeated, levels=1), strict=True):
        assert torch.equal(odd, even)


def test_wavelet_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [4.0, 9.0]]]])
    zero = torch.zeros_like(x)
    # Coefficients -3, -5, 2 and, the average, 8.
    assert float(Wavelet(levels=1)(x, zero)) == pytest.approx((3 + 5 + 2 + 8) / 4)
    assert float(Wavelet(levels=1, approximation=False)(x, zero)) == pytest.approx(10 / 3)


def test_wavelet_details_alone_do_not_see_brightness() -> None:
    loss = Wavelet(approximation=False)
    assert float(loss(images(0), images(0) + 0.5)) < 1e-12
    assert float(Wavelet()(images(0), images(0) + 0.5)) == pytest.approx(0.5 * 8 / 64)


def test_no_more_levels_are_made_than_an_image_has() -> None:
    assert len(haar(images(0, 1, 1, 4, 16), levels=9)) == 3
    assert len(laplacian_pyramid(images(0, 1, 1, 8, 16), levels=9)) == 3


def pyramid(image: np.ndarray, levels: int) -> list[np.ndarray]:
    """A Laplacian pyramid of an H x W image, by explicit windows."""

    def blur(pixels: np.ndarray) -> np.ndarray:
        line = np.array([1, 4, 6, 4, 1]) / 16
        padded = np.pad(pixels, 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
        return (windows * np.outer(line, line)).sum(axis=(-2, -1))

    made = []
    for _ in range(levels):
        smaller = blur(image)[::2, ::2]
        spread = np.zeros_like(image)
        spread[::2, ::2] = smaller
        made.append(image - 4 * blur(spread))
        image = smaller
    return [*made, image]


@pytest.mark.parametrize("size", [(32, 32), (33, 21)], ids=str)
def test_laplacian_pyramid_agrees_with_numpy(size) -> None:
    x, y = (images(seed, 1, 1, *size) for seed in (0, 1))
    levels = [
        np.abs(of_x - of_y).mean()
        for of_x, of_y in zip(pyramid(x[0, 0].numpy(), 3), pyramid(y[0, 0].numpy(), 3), strict=True)
    ]
    assert float(LaplacianPyramid(levels=3)(x, y)) == pytest.approx(float(sum(levels)), rel=1e-9)


def test_laplacian_pyramid_is_the_papers_sum_divided_by_the_pixels() -> None:
    x = images(0, 1, 1, 32, 32)
    levels = pyramid(x[0, 0].numpy(), 3)
    paper = sum(2 ** (2 * j) * np.abs(level).sum() for j, level in enumerate(levels))
    loss = LaplacianPyramid(levels=3)(x, torch.zeros_like(x))
    assert float(loss) == pytest.approx(float(paper) / 32**2)


def test_a_pyramid_of_a_flat_difference_has_it_in_the_rest_alone() -> None:
    *details, rest = laplacian_pyramid(torch.full((1, 3, 20, 28), 0.5), levels=2)
    assert all(float(level.abs().max()) < 1e-6 for level in details)
    assert torch.allclose(rest, torch.tensor(0.5))


def test_a_pyramid_ends_at_a_given_size() -> None:
    levels = laplacian_pyramid(torch.rand(1, 3, 128, 65), levels=9, min_size=32)
    assert [tuple(level.shape[1:]) for level in levels] == [(3, 128, 65), (3, 64, 33), (3, 32, 17)]


def test_an_image_can_be_rebuilt_from_its_pyramid() -> None:
    image = images(0, 1, 3, 64, 64)
    *details, current = laplacian_pyramid(image, levels=3)
    # Zeros between pixels, then the kernel 1 4 6 4 1, doubled in each direction.
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 8
    kernel = torch.outer(line, line).expand(3, 1, 5, 5)
    for detail in reversed(details):
        spread = torch.zeros_like(detail)
        spread[..., ::2, ::2] = current
        padded = torch.nn.functional.pad(spread, (2, 2, 2, 2), mode="reflect")
        current = torch.nn.functional.conv2d(padded, kernel, groups=3) + detail
    assert torch.allclose(current, image)
