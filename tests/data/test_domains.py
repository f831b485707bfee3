"""Finding and checking the images of both domains."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files import domains
from cyclegan.data.files.domains import (
    check_domains,
    size_warning,
)
from cyclegan.data.files.sources import DataSources, find_images


def sources(**options) -> DataSources:
    return DataSources(**check(TrainSettings, options).data_options)


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        check_domains(sources(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def root(tmp_path, make_images):
    """A data folder with five images of A and three of B."""
    make_images(tmp_path / "data/trainA", 5)
    make_images(tmp_path / "data/trainB", 3, size=(64, 50))
    return tmp_path / "data"


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "b.JPEG",
        "c.Jpg",
        "d.PNG",
        "e.WEBP",
        "f.bmp",
        "g.tif",
        "h.TIFF",
        "i.ppm",
        "\u00fc .png",
    ],
)
def test_a_suffix_is_recognized_in_any_case(tmp_path, name):
    (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / name]


def test_images_are_searched_recursively_and_sorted(tmp_path):
    for name in ("b/2.png", "b/c/1.png", "a.png", "b/3.txt", "d.png.bak", "noending"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "b/2.png", "b/c/1.png"]


def test_hidden_files_and_folders_are_ignored(tmp_path):
    for name in ("._a.jpg", ".ipynb_checkpoints/a.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "a.png"]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png/y.png").touch()
    assert find_images(tmp_path) == [tmp_path / "x.png/y.png"]


def test_a_link_to_a_folder_is_followed_and_a_loop_ends(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.png").touch()
    (tmp_path / "trainA").mkdir()
    (tmp_path / "trainA/link").symlink_to(tmp_path / "photos")
    (tmp_path / "trainA/loop").symlink_to(tmp_path / "trainA")
    (tmp_path / "trainA/self").symlink_to(tmp_path / "trainA/self")
    assert find_images(tmp_path / "trainA") == [tmp_path / "trainA/link/1.png"]


def test_the_first_of_two_links_to_one_folder_is_followed(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.png").touch()
    (tmp_path / "trainA").mkdir()
    for name in ("zebra", "apple", "middle"):
        (tmp_path / "trainA" / name).symlink_to(tmp_path / "photos")
    assert find_images(tmp_path / "trainA") == [tmp_path / "trainA/apple/1.png"]


def test_a_sub_folder_that_cannot_be_read_is_not_silently_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(place):
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    # Permissions do not bind root, who runs the tests in containers.
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        find_images(tmp_path)


def test_both_domains_are_found_with_their_sizes(root):
    A, B = check_domains(sources(dataroot=root))
    assert [path.name for path in A.files] == [
        "000.png",
        "001.png",
        "002.png",
        "003.png",
        "004.png",
    ]
    assert B.sizes == [(64, 50)] * 3
    assert A.describe("A") == f"A: 5 images of 48x40 px in {root / 'trainA'}"
    assert A.complaints() == []


def test_the_smallest_and_the_largest_size_are_described(root, make_images):
    make_images(root / "trainA/more", 1, size=(20, 90))
    A, _ = check_domains(sources(dataroot=root))
    assert "6 images of 20x90 to 48x40 px in " in A.describe("A")


def test_folders_may_be_called_A_and_B(tmp_path, make_images):
    make_images(tmp_path / "A", 1)
    make_images(tmp_path / "B", 2)
    A, B = check_domains(sources(dataroot=tmp_path))
    assert (A.source, B.source) == (tmp_path / "A", tmp_path / "B")


def test_folders_may_be_given_each(tmp_path, make_images):
    low, high = make_images(tmp_path / "low", 1), make_images(tmp_path / "high", 2)
    A, B = check_domains(sources(dir_A=tmp_path / "low", dir_B=tmp_path / "high"))
    assert (A.files, B.files) == (low, high)


@pytest.mark.parametrize("given", ["dataroot", "folders"])
def test_the_other_direction_exchanges_the_domains(root, given):
    where = {"dataroot": root}
    if given == "folders":
        where = {"dir_A": root / "trainA", "dir_B": root / "trainB"}
    A, B = check_domains(sources(**where, direction="BtoA"))
    assert (len(A.files), len(B.files)) == (3, 5)


def test_test_images_are_looked_for_beside_the_training_images(root):
    assert sources(dataroot=root).find("test", "A") is None
    (root / "valA").mkdir()
    assert sources(dataroot=root).find("test", "A") == root / "valA"
    (root / "testA").mkdir()
    assert sources(dataroot=root).find("test", "A") == root / "testA"
    assert sources(dataroot=root, direction="BtoA").find("test", "B") == root / "testA"


def test_max_dataset_size_uses_the_first_images(root):
    A, B = check_domains(sources(dataroot=root, max_dataset_size=2))
    assert [path.name for path in (*A.files, *B.files)] == ["000.png", "001.png"] * 2


def test_a_missing_data_folder_is_named(tmp_path):
    assert refusal(dataroot=tmp_path / "nosuch") == (
        f"--dataroot {tmp_path / 'nosuch'} is not a folder: check the path"
    )


def test_a_file_in_place_of_the_data_folder_is_refused(root):
    assert "is not a folder" in refusal(dataroot=root / "trainA/000.png")


@pytest.mark.parametrize(("direction", "gone"), [("AtoB", "trainB"), ("BtoA", "trainA")])
def test_a_missing_folder_is_named_as_the_user_knows_it(root, direction, gone):
    shutil.rmtree(root / gone)
    message = refusal(dataroot=root, direction=direction)
    assert f"has no folder {gone} or {gone[-1]} " in message
    assert "--dir_A and --dir_B" in message


@pytest.mark.parametrize(("direction", "named"), [("AtoB", "--dir_A"), ("BtoA", "--dir_B")])
def test_a_missing_folder_given_by_an_option_is_named_with_it(tmp_path, direction, named):
    places = {"dir_A": tmp_path / "one", "dir_B": tmp_path / "two"}
    message = refusal(**places, direction=direction)
    assert message == f"{named} {places[named[2:]]} is not a folder: check the path"


def test_an_empty_folder_is_named(root):
    for path in (root / "trainB").iterdir():
        path.unlink()
    (root / "trainB/readme.txt").touch()
    assert refusal(dataroot=root).startswith(f"{root / 'trainB'} holds no images: put some there")


def test_broken_files_are_named_once_and_left_out(root):
    whole = (root / "trainA/000.png").read_bytes()
    (root / "trainA/cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "trainA/text.jpg").write_text("hello")
    (root / "trainA/empty.png").touch()
    (root / "trainA/gone.png").symlink_to(root / "nosuch.png")
    A, _ = check_domains(sources(dataroot=root))
    assert len(A.files) == 5
    (complaint,) = A.complaints()
    assert complaint.startswith("skipped as unreadable: ")
    assert "text.jpg (not an image)" in complaint
    assert "empty.png (empty file)" in complaint
    assert "gone.png (No such file or directory)" in complaint
    assert "cut.png (" in complaint


def test_a_folder_without_one_whole_image_stops_the_run_and_says_why(root):
    for path in (root / "trainA").iterdir():
        path.write_text("hello")
    message = refusal(dataroot=root, preprocess="crop", crop_size=32)
    assert "holds no image to train on: skipped as unreadable: 000.png (not an image)" in message
    # The message does not blame the crop.
    assert "--crop_size" not in message


def test_images_smaller_than_the_crop_are_left_out_if_they_are_not_resized(root, make_images):
    make_images(root / "trainA/large", 2, size=(100, 64))
    options = {"dataroot": root, "preprocess": "crop", "crop_size": 50}
    A, B = check_domains(sources(**options))
    assert len(A.files) == 2
    assert A.complaints()[0].startswith(
        "skipped as too small: 000.png (48x40 px, at least 50 needed)"
    )
    assert len(B.files) == 3


def test_a_crop_larger_than_every_image_names_the_option(root):
    message = refusal(dataroot=root, preprocess="crop", crop_size=64)
    assert "--crop_size 64" in message
    assert "48x40 px, at least 64 needed" in message
    assert "--preprocess resize_and_crop" in message


def test_an_image_of_one_pixel_is_left_out(root):
    Image.new("RGB", (1, 1)).save(root / "trainA/dot.png")
    A, _ = check_domains(sources(dataroot=root))
    assert [path.name for path in A.too_small] == ["dot.png"]


def test_only_the_headers_of_a_large_domain_are_checked(root, monkeypatch):
    whole = (root / "trainA/000.png").read_bytes()
    (root / "trainA/cut.png").write_bytes(whole[:-40])
    (root / "trainA/text.jpg").write_text("hello")
    monkeypatch.setattr(domains, "FULL_CHECK_BYTES", 0)
    A, _ = check_domains(sources(dataroot=root))
    assert [path.name for path in A.unreadable] == ["text.jpg"]
    assert A.sizes == [(48, 40)] * 6


def test_a_long_list_of_complaints_is_shortened(root):
    for index in range(25):
        (root / f"trainA/bad{index:02}.png").touch()
    A, _ = check_domains(sources(dataroot=root))
    assert A.complaints()[0].endswith("bad09.png (empty file) and 15 more")


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mb.png", os.fsdecode(b"a\xffb.png")])
def test_an_unprintable_name_is_still_one_line(root, name):
    (root / "trainA" / name).touch()
    A, _ = check_domains(sources(dataroot=root))
    assert A.complaints()[0].isprintable()


def test_the_check_leaves_no_warning_filter_behind(root, monkeypatch):
    def read(path, **_):
        # Threads that silence and restore warnings at once leave such a filter.
        warnings.simplefilter("ignore")
        return Image.open(path)

    monkeypatch.setattr(domains, "read_image", read)
    before = list(warnings.filters)
    check_domains(sources(dataroot=root))
    assert warnings.filters == before


@pytest.mark.parametrize(("side", "warned"), [(60, False), (80, True)])
def test_domains_of_different_sizes_cause_a_warning(tmp_path, make_images, side, warned):
    make_images(tmp_path / "A", 3, size=(40, 44))
    make_images(tmp_path / "B", 3, size=(side, side - 1))
    A, B = check_domains(sources(dataroot=tmp_path))
    warning = size_warning(A, B)
    assert (warning is not None) == warned
    if warning:
        assert "images of A are typically 40 px, of B 79 px" in warning
