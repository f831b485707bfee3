"""Problems of single files, duplicates, and statistics of folders."""

import contextlib
import os
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.data.files.sources import DataSources
from cyclegan.tools.doctor.data_inspection import Inspection, find_folders, inspect_data
from cyclegan.tools.doctor.findings import KINDS
from cyclegan.tools.doctor.findings_report import folder_statistics
from cyclegan.tools.doctor.image_inspection import InspectedFile, inspect_file, measure_colors


def inspect(path: Path) -> InspectedFile:
    return inspect_file(path, lock=contextlib.nullcontext())


def problems(path: Path) -> dict[str, str]:
    return inspect(path).problems


def inspection_of(root: Path) -> Inspection:
    return inspect_data(root, find_folders(DataSources(root)))


def kinds(root: Path) -> dict[str, list[tuple[str, ...]]]:
    """The names of the files of each kind of finding."""
    found = inspection_of(root)
    return {
        kind: [tuple(found.name(file) for file in finding.files) for finding in findings]
        for kind, findings in found.findings.items()
    }


def declared(width: int, height: int) -> bytes:
    """A PNG whose header declares the size, with almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def test_a_photograph_has_no_problems(tmp_path: Path, picture) -> None:
    picture((64, 50)).save(tmp_path / "a.png")
    found = inspect(tmp_path / "a.png")
    assert found.problems == {}
    assert found.image.size == (64, 50)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.png", b"", "empty"),
        ("a.jpg", b"<html>404</html>", "not_an_image"),
        ("a.png", declared(65000, 65000), "too_large"),
        ("a.png", declared(300, 300), "damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_by_kind(tmp_path, name, data, kind) -> None:
    (tmp_path / name).write_bytes(data)
    assert list(problems(tmp_path / name)) == [kind]
    assert KINDS[kind].severity == "error"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_a_file_cut_in_half_is_an_error(tmp_path: Path, picture, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture((90, 70)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert [KINDS[kind].severity for kind in problems(path)] == ["error"]


# inspect_files silences them for a whole folder.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_inspecting_a_file_of_changed_bytes_never_raises(
    tmp_path: Path, picture, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    picture((40, 40)).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 80), 3):
            data[place] = random.integers(256)
        path.write_bytes(data)
        found = inspect(path)
        assert (found.image is None) == any(KINDS[k].severity == "error" for k in found.problems)


def test_links_to_nowhere_and_to_themselves_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "b.png")
    assert problems(tmp_path / "a.png") == {"unreadable": "No such file or directory"}
    assert list(problems(tmp_path / "b.png")) == ["unreadable"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert problems(tmp_path / "a.png") == {"unreadable": "not a file"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_forbidden_file_is_unreadable(tmp_path: Path, picture) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert problems(tmp_path / "a.png") == {"unreadable": "Permission denied"}


@pytest.mark.parametrize(
    ("size", "kind"),
    [((7, 40), "too_small"), ((31, 40), "tiny"), ((32, 128), None), ((32, 129), "long")],
)
def test_a_shape_that_hardly_trains_is_reported(tmp_path: Path, picture, size, kind) -> None:
    picture(size).save(tmp_path / "a.png")
    found = set(problems(tmp_path / "a.png")) - ({"long"} if kind == "too_small" else set())
    assert found == ({kind} if kind else set())


def test_one_colour_is_flat_and_faint_grain_does_not_help(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).normal(120, 1, (50, 50, 3))
    Image.fromarray(grain.astype(np.uint8)).save(tmp_path / "a.png")
    assert list(problems(tmp_path / "a.png")) == ["flat"]


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "cmyk"), ("I;16", "deep"), ("RGBA", "alpha")])
def test_what_is_converted_is_a_note(tmp_path: Path, picture, mode: str, kind: str) -> None:
    image = picture()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
    image.convert(mode).save(tmp_path / "a.tif")
    assert list(problems(tmp_path / "a.tif")) == [kind]
    assert KINDS[kind].severity == "note"


def test_a_png_named_jpg_is_read_and_told(tmp_path: Path, picture) -> None:
    picture().save(tmp_path / "a.jpg", "PNG")
    assert problems(tmp_path / "a.jpg") == {"wrong_ending": "is a PNG"}


def test_an_animation_says_how_many_pictures(tmp_path: Path, picture) -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert problems(tmp_path / "a.png") == {"animated": "3 pictures"}


def test_an_image_turned_by_exif_has_its_upright_size(tmp_path: Path, picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture((60, 40)).save(tmp_path / "a.jpg", exif=exif)
    found = inspect(tmp_path / "a.jpg")
    assert list(found.problems) == ["turned"]
    assert found.image.size == (40, 60)


def test_images_of_other_endings_are_reported_and_other_files_are_not(
    dataroot: Path, picture
) -> None:
    folder = dataroot / "trainA"
    picture().save(folder / "a.gif")
    picture().save(folder / "b.jfif", "JPEG")
    picture().save(folder / "noending", "PNG")
    (folder / "c.heic").write_bytes(b"whatever")
    (folder / "notes.txt").write_text("Pictures of P6\n")
    (folder / ".hidden.png").touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.gif").touch()
    names = ("a.gif", "b.jfif", "c.heic", "noending")
    assert kinds(dataroot) == {"foreign": [(f"trainA/{name}",) for name in names]}


def test_a_folder_named_like_an_image_is_searched(dataroot: Path) -> None:
    (dataroot / "trainA/x.png").mkdir()
    (dataroot / "trainA/x.png/in.jpg").touch()
    assert kinds(dataroot) == {"empty": [("trainA/x.png/in.jpg",)]}


def test_good_data_has_no_findings(dataroot: Path) -> None:
    found = inspection_of(dataroot)
    assert (found.findings, found.ok) == ({}, True)


def copy(dataroot: Path, source: str, target: str, *, half: bool = False) -> None:
    image = Image.open(dataroot / source)
    if half:
        image = image.resize((image.width // 2 + 14, image.height // 2 + 12))
    image.save(dataroot / target)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        ("trainA/001.png", "trainB/copy.png", "across_domains"),
        ("trainA/001.png", "testA/copy.png", "train_test"),
        ("trainB/001.png", "testB/copy.png", "train_test"),
        ("trainA/001.png", "testB/copy.png", "train_test"),
        ("trainA/001.png", "trainA/copy.png", "repeated"),
        ("testA/001.png", "testB/copy.png", "paired_test"),
    ],
)
def test_a_copy_is_found_and_where_it_lies_says_what_it_means(
    dataroot: Path, source: str, target: str, kind: str, half: bool
) -> None:
    copy(dataroot, source, target, half=half)
    found = inspection_of(dataroot)
    assert {kind: [(source, target)]} == kinds(dataroot)
    assert found.findings[kind][0].detail == ("nearly the same" if half else "the same pixels")
    assert found.ok == (KINDS[kind].severity == "note")


def test_a_picture_in_three_places_is_told_of_each_relation(dataroot: Path) -> None:
    copy(dataroot, "trainA/001.png", "trainB/copy.png")
    copy(dataroot, "trainA/001.png", "testA/copy.png")
    assert kinds(dataroot) == {
        "across_domains": [("trainA/001.png", "trainB/copy.png")],
        "train_test": [("trainA/001.png", "trainB/copy.png", "testA/copy.png")],
    }


def test_flat_images_do_not_resemble_each_other(dataroot: Path) -> None:
    Image.new("RGB", (40, 40), (10, 10, 10)).save(dataroot / "trainA/a.png")
    Image.new("RGB", (40, 40), (12, 12, 12)).save(dataroot / "trainB/b.png")
    assert kinds(dataroot) == {"flat": [("trainA/a.png",), ("trainB/b.png",)]}


def test_a_domain_without_a_usable_image_is_an_error(dataroot: Path) -> None:
    for path in (dataroot / "trainB").iterdir():
        path.write_bytes(b"")
    found = kinds(dataroot)
    assert found["no_images"] == [("trainB",)]
    assert len(found["empty"]) == 7


def test_domains_of_unlike_size_are_reported_in_the_words_of_training(
    dataroot: Path, make_images
) -> None:
    make_images(dataroot / "trainB", 7, size=(104, 88), seed=1)
    found = inspection_of(dataroot)
    assert list(found.findings) == ["sizes"]
    assert found.findings["sizes"][0].detail.startswith(
        "images of A are typically 44 px, of B 88 px"
    )
    assert found.ok


def test_colors_are_those_computed_by_hand() -> None:
    levels = np.zeros((2, 2, 3), dtype=np.uint8)
    levels[0] = (255, 0, 0)
    colors = measure_colors(levels)
    assert colors.mean.tolist() == [127.5, 0, 0]
    assert colors.square.tolist() == [255**2 / 2, 0, 0]
    assert colors.brightness == pytest.approx(0.299 * 127.5)
    assert colors.contrast == pytest.approx(0.299 * 127.5)
    assert colors.saturation == 127.5


def test_a_parts_statistics_count_every_image_the_same(tmp_path: Path) -> None:
    for name, size, level in (("a", (40, 60), 100), ("b", (80, 50), 200), ("c", (60, 90), 0)):
        Image.new("RGB", size, (level, 0, 0)).save(tmp_path / f"{name}.png")
    (folder,) = inspect_data(None, {"trainA": tmp_path}).folders
    found = folder_statistics(folder)
    assert found["typical_size"] == [60, 60]
    assert (found["smallest_size"], found["largest_size"]) == ([40, 60], [60, 90])
    assert found["mean"] == [100, 0, 0]
    # The square root of (100^2 + 200^2 + 0^2) / 3 - 100^2.
    assert found["deviation"] == [81.65, 0, 0]
    assert (found["brightness"], found["contrast"], found["saturation"]) == (29.9, 0, 100)


def test_a_folder_without_readable_images_has_no_statistics(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (folder,) = inspect_data(None, {"trainA": tmp_path}).folders
    assert folder_statistics(folder) == {}


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], "has no folder trainA or A (folders there: none)"),
        (["trainA"], "has no folder trainB or B (folders there: trainA)"),
    ],
)
def test_a_missing_domain_is_the_users_mistake(tmp_path: Path, there, message: str) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError) as caught:
        find_folders(DataSources(tmp_path))
    assert message in str(caught.value)


def test_validation_folders_and_plain_names_are_found(tmp_path: Path) -> None:
    for name in ("A", "B", "valA", "testB"):
        (tmp_path / name).mkdir()
    found = find_folders(DataSources(tmp_path))
    assert {name: path.name for name, path in found.items()} == {
        **{"trainA": "A", "trainB": "B"},
        **{"testA": "valA", "testB": "testB"},
    }


def test_images_in_a_tar_file_are_looked_at_and_named_within_it(dataroot: Path) -> None:
    copy(dataroot, "trainA/001.png", "trainB/copy.png")
    with tarfile.open(dataroot / "trainA.tar", "w") as shard:
        for path in sorted((dataroot / "trainA").iterdir()):
            shard.add(path, path.name)
    shutil.rmtree(dataroot / "trainA")
    assert kinds(dataroot) == {"across_domains": [("trainA.tar!001.png", "trainB/copy.png")]}


def test_a_tar_file_that_breaks_off_is_damaged(dataroot: Path) -> None:
    with tarfile.open(dataroot / "trainA/more.tar", "w") as shard:
        for path in sorted((dataroot / "trainB").iterdir()):
            shard.add(path, path.name)
    data = (dataroot / "trainA/more.tar").read_bytes()
    (dataroot / "trainA/more.tar").write_bytes(data[: len(data) // 2])
    assert ("trainA/more.tar",) in kinds(dataroot)["damaged"]
