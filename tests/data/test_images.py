"""Conversions between files, images and tensors, for any content of the file."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan.data.files.images import (
    UnreadableImage,
    image_size,
    read_image,
    save_image,
    to_image,
    to_tensor,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def png(color: int, depth: int, rows: np.ndarray, *extra: bytes) -> bytes:
    """A PNG made by hand: what Pillow cannot write, it must still read."""
    height, width = rows.shape[:2]
    kind = ">u2" if depth == 16 else "u1"
    raw = b"".join(b"\0" + row.astype(kind).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        *extra,
        chunk(b"IDAT", zlib.compress(raw)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def corners() -> Image.Image:
    """Three by two, with another colour in each corner of its top row and bottom left."""
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), RED)
    image.putpixel((2, 0), GREEN)
    image.putpixel((0, 1), BLUE)
    return image


# The sides on which the EXIF standard shows the first row and the first column.
@pytest.mark.parametrize(
    ("orientation", "red", "green", "blue"),
    [
        (1, (0, 0), (2, 0), (0, 1)),
        (2, (2, 0), (0, 0), (2, 1)),
        (3, (2, 1), (0, 1), (2, 0)),
        (4, (0, 1), (2, 1), (0, 0)),
        (5, (0, 0), (0, 2), (1, 0)),
        (6, (1, 0), (1, 2), (0, 0)),
        (7, (1, 2), (1, 0), (0, 2)),
        (8, (0, 2), (0, 0), (1, 2)),
    ],
)
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_the_exif_orientation_is_applied(tmp_path, orientation, red, green, blue, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{ending}"
    corners().save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    image = read_image(path)
    assert image.size == image_size(path) == ((3, 2) if orientation < 5 else (2, 3))
    assert [image.getpixel(place) for place in (red, green, blue)] == [RED, GREEN, BLUE]


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0rubbish"]
)
def test_damaged_exif_data_is_ignored_silently(tmp_path, exif):
    corners().save(tmp_path / "x.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "x.jpg").size == image_size(tmp_path / "x.jpg") == (3, 2)


def test_a_large_photograph_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    corners().save(tmp_path / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "x.png").size == image_size(tmp_path / "x.png") == (3, 2)


@pytest.mark.parametrize(("mode", "value"), [("1", 255), ("L", 255), ("LA", (0, 0))])
def test_gray_becomes_three_equal_channels_and_transparent_gray_white(tmp_path, mode, value):
    Image.new(mode, (3, 2), value).save(tmp_path / "x.png")
    assert (pixels(tmp_path / "x.png") == 255).all()


def test_a_palette_becomes_its_colours(tmp_path):
    corners().quantize(4).save(tmp_path / "x.png")
    assert (pixels(tmp_path / "x.png") == np.asarray(corners())).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "x.jpg").astype(int) - RED).max() <= 2


def test_colour_hidden_under_full_transparency_does_not_show(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    image.save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").tolist() == [[list(WHITE), [10, 20, 30]]]


def test_half_transparent_pixels_are_blended_with_white(tmp_path):
    # 0.2 of black on white leaves 0.8 of 255.
    Image.new("RGBA", (1, 1), (0, 0, 0, 51)).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").ravel().tolist() == [204, 204, 204]


@pytest.mark.parametrize(
    ("color", "rows", "mark"),
    [
        (2, np.full((2, 2, 3), 9), struct.pack(">HHH", 9, 9, 9)),
        (0, np.full((2, 2, 1), 9), struct.pack(">H", 9)),
    ],
    ids=["rgb", "gray"],
)
def test_a_colour_marked_as_transparent_becomes_white(tmp_path, color, rows, mark):
    (tmp_path / "x.png").write_bytes(png(color, 8, rows, chunk(b"tRNS", mark)))
    assert (pixels(tmp_path / "x.png") == 255).all()


def test_a_transparent_entry_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "x.png", transparency=0)
    assert pixels(tmp_path / "x.png").tolist() == [[list(WHITE), list(BLUE)]]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_gray_is_scaled_and_not_saturated(tmp_path, ending):
    # Every 8-bit level is 257 of 16 bits.
    deep = (np.arange(256) * 257).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / f"x.{ending}")
    assert (pixels(tmp_path / f"x.{ending}")[..., 0].ravel() == np.arange(256)).all()


def test_sixteen_bit_colour_is_scaled_and_not_saturated(tmp_path):
    (tmp_path / "x.png").write_bytes(png(2, 16, np.full((2, 2, 3), 128 * 257)))
    assert (pixels(tmp_path / "x.png") == 128).all()


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_the_range_they_are_in(tmp_path, top):
    values = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert np.abs(pixels(tmp_path / "x.tif")[..., 0].ravel() - np.arange(256)).max() == 0


def test_a_nan_or_infinite_value_affects_only_its_own_pixel(tmp_path):
    values = np.full((2, 2), 100, dtype=np.float32)
    values[0] = np.inf, np.nan
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert pixels(tmp_path / "x.tif")[..., 0].tolist() == [[255, 0], [100, 100]]


@pytest.mark.parametrize(
    ("written", "named"),
    [("gif", "x.png"), ("webp", "x.webp"), ("png", "x.png"), ("tiff", "x.tif"), ("gif", "x.Jpg")],
)
def test_the_first_frame_of_an_animation_is_read_whatever_the_file_is_called(
    tmp_path, written, named
):
    pictures = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN, BLUE)]
    lossless = {"lossless": True} if written == "webp" else {}
    pictures[0].save(
        tmp_path / named, format=written, save_all=True, append_images=pictures[1:], **lossless
    )
    assert (pixels(tmp_path / named) == RED).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif", "ppm"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file_is_unreadable(tmp_path, picture, ending, kept):
    path = tmp_path / f"x.{ending}"
    picture().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(UnreadableImage):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b"hello", "not an image"),
        (None, "No such file or directory"),
        (png(2, 8, np.zeros((1, 1, 3)), chunk(b"tRNS", b"")), "tRNS"),
        (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", b""),
            "60000x60000 px: more than the 178 megapixels that are safe to decode",
        ),
    ],
    ids=["empty", "text", "missing", "damaged", "bomb"],
)
def test_a_file_that_is_no_image_is_unreadable_for_a_stated_reason(tmp_path, read, content, why):
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UnreadableImage, match=why):
        read(tmp_path / "x.jpg")


def enormous(ending: str) -> bytes:
    """A few bytes whose header declares 65000 x 65000 pixels."""
    stream = io.BytesIO()
    if ending == "ppm":
        return b"P6 65000 65000 255\n"
    if ending == "png":
        header = struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    kind, _, compression = ending.partition(" ")
    options = {"compression": compression} if compression else {}
    corners().save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind), **options)
    content = bytearray(stream.getvalue())
    if kind == "bmp":
        content[18:26] = struct.pack("<ii", 65000, 65000)
    elif kind == "jpg":
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    elif kind == "webp":
        # An extended header, which declares the canvas, before the small picture.
        canvas = bytes(4) + 2 * (65000 - 1).to_bytes(3, "little")
        content[12:12] = b"VP8X" + struct.pack("<I", 10) + canvas
        content[4:8] = struct.pack("<I", len(content) - 8)
    else:
        (directory,) = struct.unpack_from("<I", content, 4)
        for entry in range(directory + 2, directory + 26, 12):
            (tag,) = struct.unpack_from("<H", content, entry)
            if tag in (256, 257):
                struct.pack_into("<HHII", content, entry, tag, 4, 1, 65000)
    return bytes(content)


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize(
    "ending",
    ["png", "jpg", "webp", "bmp", "ppm", "tif raw", "tif tiff_lzw", "tif tiff_adobe_deflate"],
)
def test_an_enormous_image_is_refused_by_its_header(tmp_path, monkeypatch, read, ending):
    path = tmp_path / f"x.{ending.split()[0]}"
    path.write_bytes(enormous(ending))
    # To allocate its pixels would be the next thing that a decoder does.
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(UnreadableImage) as caught:
        read(path)
    size = str(caught.value).removesuffix(": more than the 178 megapixels that are safe to decode")
    # Pillow's WEBP plugin tells only the number of pixels.
    assert size in ("65000x65000 px", *(["4225 megapixels"] if "webp" in ending else []))


@pytest.mark.parametrize(
    "error", [struct.error("x"), OverflowError(), MemoryError(), RecursionError()]
)
def test_any_exception_of_a_decoder_makes_a_file_unreadable(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    corners().save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "getexif", fail)
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage, match=r"\w"):
            read(tmp_path / "x.png")


def test_a_tensor_holds_the_levels_between_minus_one_and_one():
    tensor = to_tensor(Image.fromarray(np.array([[[0, 51, 255]]], dtype=np.uint8)))
    assert tensor.shape == (3, 1, 1)
    assert tensor.dtype == torch.float32
    assert tensor.flatten().tolist() == pytest.approx([-1, -0.6, 1])


def test_all_256_levels_survive_the_conversion_to_a_tensor_and_back():
    image = Image.fromarray(np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3))
    assert (np.asarray(to_image(to_tensor(image))) == np.asarray(image)).all()


def test_an_image_keeps_its_rows_columns_and_channels():
    tensor = to_tensor(corners())
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 0, 2].tolist() == [-1, 1, -1]
    assert to_image(tensor).getpixel((0, 1)) == BLUE


def test_values_are_rounded_and_clipped():
    # 100.6 and 100.4 levels, then values beyond both ends, which a cast would truncate and wrap.
    values = torch.tensor([100.6 / 127.5 - 1, 100.4 / 127.5 - 1, 1.5, -7.0])
    image = to_image(values.expand(3, 1, 4))
    assert np.asarray(image)[0, :, 0].tolist() == [101, 100, 255, 0]


@pytest.mark.parametrize("name", ["x.png", "x.PNG", "x.bmp", "x.tif", "x.ppm", "a/b/x.y.png"])
def test_lossless_formats_keep_every_pixel(tmp_path, picture, name):
    save_image(picture(), tmp_path / name)
    assert (pixels(tmp_path / name) == np.asarray(picture())).all()


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.webp"])
def test_lossy_formats_are_saved_at_high_quality(tmp_path, picture, name):
    save_image(picture(), tmp_path / name)
    picture().save(tmp_path / f"default_{name}")
    ours, default = (
        np.square(pixels(tmp_path / file).astype(float) - np.asarray(picture())).mean()
        for file in (name, f"default_{name}")
    )
    assert ours < default / 1.5


def test_a_failed_save_keeps_the_old_file(tmp_path, picture, monkeypatch):
    save_image(picture(), tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()

    def full(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_image(picture(seed=1), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
