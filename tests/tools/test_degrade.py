"""python -m cyclegan degrade: which images are written where, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cyclegan.__main__
from cyclegan.config.errors import UserError, one_line_errors
from cyclegan.data.files.images import read_image
from cyclegan.tools.degrade.command import main, parse_range


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def photos(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path / "photos", 5, size=(21, 18))
    return tmp_path / "photos"


@pytest.fixture
def degrade(photos: Path, tmp_path: Path) -> Callable[..., int]:
    """The command on the five photographs, into tmp_path/mine unless told."""

    def call(*words: object, folder: Path = photos, output: Path = tmp_path / "mine") -> int:
        return main([str(folder), "--output", str(output), *map(str, words)])

    return call


def refusal(call: Callable[[], int]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_b_is_the_cropped_photograph_and_a_is_that_many_times_smaller(
    degrade, photos: Path, tmp_path: Path, scale: int
) -> None:
    assert degrade("--scale", scale) == 0
    width, height = 21 // scale * scale, 18 // scale * scale
    for path in photos.iterdir():
        large = read_image(tmp_path / "mine/trainB" / path.name)
        assert (np.asarray(large) == np.asarray(read_image(path))[:height, :width]).all()
        small = np.asarray(read_image(tmp_path / "mine/trainA" / path.name)).astype(int)
        # Pillow's bicubic has the same kernel, in fixed point.
        other = large.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
        assert np.abs(small - np.asarray(other).astype(int)).max() <= 1


def test_the_test_part_has_its_own_folders(degrade, tmp_path: Path) -> None:
    assert degrade("--part", "test") == 0
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"testA", "testB"}
    assert names(tmp_path / "mine/testA") == names(tmp_path / "mine/testB")


def test_unpaired_puts_each_photograph_into_one_domain(
    degrade, photos: Path, tmp_path: Path
) -> None:
    assert degrade("--unpaired") == 0
    A, B = names(tmp_path / "mine/trainA"), names(tmp_path / "mine/trainB")
    assert (len(A), len(B)) == (2, 3)
    assert names(photos) == A | B


def test_the_seed_chooses_the_halves(degrade, tmp_path: Path) -> None:
    halves = []
    for number, seed in enumerate((0, 0, 1, 2, 3)):
        output = tmp_path / str(number)
        assert degrade("--unpaired", "--seed", seed, output=output) == 0
        halves.append(frozenset(names(output / "trainA")))
    assert halves[0] == halves[1]
    assert len(set(halves)) > 1


def test_subfolders_and_names_are_kept_as_png(degrade, tmp_path: Path, picture) -> None:
    folder = tmp_path / "in"
    for name in ("a.jpg", "sub/a.bmp", "same.jpg", "same.bmp", "same.bmp.png", "v1.2.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(folder / name)
    assert degrade(folder=folder) == 0
    expected = {
        *("a.png", "sub/a.png", "v1.2.png"),
        *("same.jpg.png", "same.bmp.png", "same.bmp.png.png"),
    }
    assert names(tmp_path / "mine/trainA") == names(tmp_path / "mine/trainB") == expected


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "P", "CMYK"])
def test_images_of_any_depth_and_colour_become_rgb(degrade, tmp_path: Path, mode: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new(mode, (9, 9)).save(tmp_path / "in" / "a.tif")
    assert degrade(folder=tmp_path / "in") == 0
    small = Image.open(tmp_path / "mine/trainA/a.png")
    assert (small.mode, small.size) == ("RGB", (4, 4))


def test_unusable_files_are_named_and_the_rest_is_written(
    degrade, photos: Path, tmp_path: Path, capsys
) -> None:
    (photos / "text.png").write_text("no image")
    (photos / "empty.jpg").touch()
    Image.new("RGB", (40, 1)).save(photos / "thin.png")
    assert degrade() == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 3
    assert f"not used: {photos / 'empty.jpg'} (empty file)" in lines
    assert f"not used: {photos / 'text.png'} (not an image)" in lines
    assert "40x1 px cannot be made 2 times smaller" in said.err
    assert said.out.splitlines()[0] == f"5 images written to {tmp_path / 'mine/trainA'}"
    assert len(names(tmp_path / "mine/trainB")) == 5


def test_a_filled_folder_is_not_touched(degrade, tmp_path: Path) -> None:
    other = tmp_path / "mine/trainB/mine.png"
    other.parent.mkdir(parents=True)
    other.write_text("keep")
    message = refusal(degrade)
    assert str(other.parent) in message
    assert "--overwrite" in message
    assert names(tmp_path / "mine") == {"trainB/mine.png"}


def test_overwriting_replaces_the_same_names_and_counts_others(
    degrade, tmp_path: Path, capsys
) -> None:
    assert degrade("--scale", 2) == 0
    Image.new("RGB", (9, 9)).save(tmp_path / "mine/trainA/other.png")
    capsys.readouterr()
    assert degrade("--scale", 3, "--overwrite") == 0
    assert read_image(tmp_path / "mine/trainA/000.png").size == (7, 6)
    A, B = capsys.readouterr().out.splitlines()
    assert A.endswith("trainA, which holds 1 others from before")
    assert B.endswith("trainB")


@pytest.mark.parametrize("place", ["photos", "photos/mine", "photos/sub/mine", "../{}/photos"])
def test_an_output_inside_the_photographs_is_refused(
    degrade, photos: Path, tmp_path: Path, place: str
) -> None:
    output = tmp_path / place.format(tmp_path.name)
    assert "choose an --output elsewhere" in refusal(lambda: degrade(output=output))
    assert len(names(photos)) == 5


@pytest.mark.parametrize("place", ["mine/trainB", "mine/trainA/deeper"])
def test_photographs_inside_the_output_are_refused_even_to_overwrite(
    degrade, tmp_path: Path, make_images, place: str
) -> None:
    folder = tmp_path / place
    before = [path.read_bytes() for path in make_images(folder, 2)]
    message = refusal(lambda: degrade("--overwrite", folder=folder))
    assert "choose an --output elsewhere" in message
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before


def test_a_link_to_photographs_inside_the_output_is_followed(
    degrade, tmp_path: Path, make_images
) -> None:
    make_images(tmp_path / "mine/trainB", 2)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/000.png").symlink_to(tmp_path / "mine/trainB/000.png")
    message = refusal(lambda: degrade("--overwrite", folder=tmp_path / "links"))
    assert "choose an --output elsewhere" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "5"], "2"),
        (["--kind", "bicubik"], "bicubic"),
        (["--kind", "bicubic", "--blur", "1"], "--kind classical or real"),
        (["--kind", "real", "--jpeg", "0:95"], "--jpeg 0:95: must be one number from 1 to 100"),
        (["--seed", "-1"], "--seed"),
        (["--scal", "2"], "did you mean scale?"),
        (["more"], "more"),
    ],
)
def test_a_mistyped_option_is_refused(degrade, tmp_path: Path, words, message: str) -> None:
    assert message in refusal(lambda: degrade(*words))
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "degrade HR_FOLDER"),
        (["photos"], "--output DATAROOT"),
        (["gone", "--output", "mine"], "gone is not a folder"),
        (["photos/000.png", "--output", "mine"], "000.png is not a folder"),
        (["empty", "--output", "mine"], "empty holds no images"),
        (["one", "--output", "mine", "--unpaired"], "at least two photographs"),
        (["--output", "mine", "--scale=2", "", "photos"], "empty value"),
    ],
)
def test_unusable_folders_are_refused(
    photos: Path, tmp_path: Path, make_images, monkeypatch, words, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_images(tmp_path / "one", 1)
    assert message in refusal(lambda: main(words))
    assert not (tmp_path / "mine").exists()


def test_a_file_at_the_output_path_is_one_line_of_error(degrade, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(SystemExit) as stop, one_line_errors():
        degrade()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "mine").read_text() == "keep"


def test_options_may_precede_the_folder(photos: Path, tmp_path: Path, capsys) -> None:
    words = ["--scale", "2", "--kind", "classical", str(photos), "--output", str(tmp_path / "mine")]
    assert cyclegan.__main__.main(["degrade", *words]) == 0
    assert capsys.readouterr().err == ""
    assert len(names(tmp_path / "mine/trainA")) == 5


@pytest.mark.parametrize(
    ("option", "text", "ends"),
    [
        ("blur", "0.2:3", (0.2, 3.0)),
        ("blur", "0", (0.0, 0.0)),
        ("noise", "none", None),
        ("noise", "1:30", (1.0, 30.0)),
        ("jpeg", "30:95", (30.0, 95.0)),
        ("jpeg", "80", (80.0, 80.0)),
    ],
)
def test_a_range_is_two_numbers_or_one_or_none(option: str, text: str, ends) -> None:
    assert parse_range(option, text) == ends


@pytest.mark.parametrize(
    "text", ["3:1", "-1:2", "1:21", "nan", "1:nan", "inf", "", ":", "1:2:3", "a:b", "None", "1 2"]
)
def test_any_other_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--blur"):
        parse_range("blur", text)
