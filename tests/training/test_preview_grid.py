"""The preview grid, and pictures small enough to be sent."""

import io

import numpy as np
import pytest
from PIL import Image
from support.toys import picture

from cyclegan.data.files.jpeg import PREVIEW_BYTES, encode_jpeg, preview_jpeg
from cyclegan.training.statistics.preview_grid import (
    CELL,
    WIDTH,
    ZOOM,
    PreviewRow,
    center_crop,
    cycle_error,
    draw_grid,
    heat,
    worst_window,
)


def gray(value: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, (value,) * 3)


def row(*, real=None, fake=None, rec=None, name="image.png") -> PreviewRow:
    return PreviewRow(name, real or gray(100), fake or gray(120), rec or gray(103))


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE 1976 L*, 0 to 100, of sRGB in levels of 255."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    root = np.cbrt(luminance)
    return np.where(luminance > 0.008856, 116 * root - 16, 903.3 * luminance)


def test_the_cycle_error_is_the_mean_over_the_channels_in_levels():
    rec = Image.new("RGB", (5, 4), (103, 94, 100))
    error = cycle_error(row(real=gray(100, (5, 4)), rec=rec))
    assert error.shape == (4, 5)
    np.testing.assert_allclose(error, 3)


def test_equal_steps_of_the_error_look_equally_large():
    """One colour for each eighth of the range: lightness rises by about an eighth each time."""
    colours = np.asarray(heat(np.linspace(0, 8, 9)[None], 8))[0]
    steps = np.diff(lightness(colours.astype(float)))
    assert steps.min() > 7
    assert steps.max() < 18
    assert lightness(colours[[0, -1]].astype(float)).tolist() == pytest.approx([0, 98], abs=2)


def test_an_error_above_the_end_of_the_scale_has_its_last_colour():
    assert heat(np.array([[5.0, 9.0]]), 5).tobytes() == bytes((252, 253, 191)) * 2


def test_the_window_lies_where_the_error_is_largest():
    error = np.zeros((40, 60))
    error[25:35, 7:17] = 9.0
    assert worst_window(error, 10) == (7, 25, 17, 35)
    # One bright point is less than a large patch.
    error[3, 50] = 100.0
    assert worst_window(error, 10) == (7, 25, 17, 35)


def test_a_window_of_an_even_error_lies_in_the_middle():
    assert worst_window(np.full((40, 60), 0.1), 10) == (25, 15, 35, 25)
    assert worst_window(np.zeros((12, 12)), 12) == (0, 0, 12, 12)


def test_each_image_is_a_row_under_the_header_of_its_domain():
    one, two = draw_grid([row()], []).height, draw_grid([row(), row()], []).height
    header = 2 * one - two
    assert draw_grid([row()], [row(), row()]).height == 2 * header + 3 * (two - one) - 12
    assert draw_grid([row()], [row()]).width == WIDTH
    assert 1200 <= WIDTH <= 1310


def test_a_row_shows_the_images_the_error_and_the_worst_place_enlarged():
    """In cells of 200 px: real, fake, rec, the error; then a quarter of the side, by 4.5."""
    levels = np.full((128, 128, 3), 100, dtype=np.uint8)
    levels[64:96, 32:64] = 110
    one = row(real=gray(100, (128, 128)), fake=gray(50, (128, 128)), rec=Image.fromarray(levels))
    page = np.asarray(draw_grid([one], []))
    top = page.shape[0] - 12 - 8 - CELL
    lefts = [12 + index * (CELL + 8) for index in range(4)]
    at = [tuple(page[top + 10, left + 10]) for left in lefts]
    assert at == [(100,) * 3, (50,) * 3, (100,) * 3, (0, 0, 4)]
    # In the center_crop of the error, which is all of it at the end of the scale.
    assert tuple(page[top + 125, lefts[3] + 75]) == (252, 253, 191)
    zooms = [lefts[3] + CELL + 8 + index * (ZOOM + 8) for index in range(3)]
    middles = [page[top + ZOOM // 2, left + ZOOM // 2, 0] for left in zooms]
    assert middles == [100, 50, 110]
    # The window of 36 px holds the patch of 32.
    patch = page[top : top + ZOOM, zooms[2] : zooms[2] + ZOOM, 0] == 110
    assert patch.sum() == (32 * 4) ** 2


def test_the_window_is_framed_on_the_images():
    levels = np.full((128, 128, 3), 100, dtype=np.uint8)
    levels[0:36, 0:36] = 110
    page = np.asarray(draw_grid([row(real=gray(100, (128, 128)), rec=Image.fromarray(levels))], []))
    top = page.shape[0] - 12 - 8 - CELL
    for index in range(4):
        line = page[top + 20, 12 + index * (CELL + 8) :][:CELL]
        white = np.flatnonzero((line == 255).all(axis=1))
        # 36 px of 128 are 56 of 200.
        assert white.tolist() == [0, 55]
        assert tuple(line[56]) == (0, 0, 0)


def test_with_a_scale_the_smaller_images_are_enlarged_bicubically():
    small, large = picture((24, 20), seed=1), picture((48, 40), seed=2)
    enlarged = small.resize(large.size, Image.Resampling.BICUBIC)
    scaled = np.asarray(draw_grid([PreviewRow("a", small, large, small)], []))
    as_large = np.asarray(draw_grid([PreviewRow("a", enlarged, large, enlarged)], []))
    assert scaled.shape == as_large.shape
    below = 12 + 30 + 22
    np.testing.assert_array_equal(scaled[below:], as_large[below:])
    # And the header says so.
    assert (scaled[:below] != as_large[:below]).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (512, 30), (17, 16)])
def test_images_of_any_shape_have_room(size):
    one = PreviewRow("n" * 200 + ".png", *(picture(size, seed=seed) for seed in range(3)))
    assert draw_grid([one], [one]).width == WIDTH


def test_the_middle_of_an_image_is_cut_and_a_small_one_left():
    image = gray(0, (10, 6))
    image.putpixel((4, 2), (255, 0, 0))
    cut = center_crop(image, 4)
    assert cut.size == (4, 4)
    assert cut.getpixel((1, 1)) == (255, 0, 0)
    assert center_crop(image, 20).size == (10, 6)


@pytest.mark.slow
def test_a_sheet_of_twice_sixteen_images_can_be_sent():
    noisy = [
        PreviewRow(f"{i}.png", *(picture((256, 256), seed=3 * i + j) for j in range(3)))
        for i in range(16)
    ]
    page = draw_grid(noisy, noisy)
    data = preview_jpeg(page)
    assert len(data) <= PREVIEW_BYTES
    sent = Image.open(io.BytesIO(data))
    assert sent.width / sent.height == pytest.approx(page.width / page.height, rel=0.02)


def test_a_picture_that_fits_is_sent_as_large_as_it_is():
    image = picture((300, 200))
    sent = Image.open(io.BytesIO(encode_jpeg(image, max_bytes=300_000)))
    assert (sent.format, sent.size) == ("JPEG", (300, 200))


@pytest.mark.parametrize("most", [50_000, 5_000, 1_000])
def test_a_picture_is_made_smaller_until_it_fits(most):
    data = encode_jpeg(picture((600, 400)), max_bytes=most)
    assert len(data) <= most
    width, height = Image.open(io.BytesIO(data)).size
    assert width / height == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(("size", "sent"), [((400, 100), (200, 50)), ((100, 50), (100, 50))])
def test_a_picture_is_no_wider_than_asked(size, sent):
    data = encode_jpeg(gray(7, size), max_bytes=PREVIEW_BYTES, max_width=200)
    assert Image.open(io.BytesIO(data)).size == sent
