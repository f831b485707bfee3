"""python -m cyclegan doctor: its text, its JSON, its contact sheet and its exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cyclegan.config.errors import UserError, one_line_errors
from cyclegan.tools.doctor.command import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def report(capsys, *words: object) -> dict:
    main([*map(str, words), "--json"])
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_good_data_is_status_0_with_a_contact_sheet_in_the_working_folder(
    dataroot, here, capsys
) -> None:
    assert main([str(dataroot)]) == 0
    said = capsys.readouterr().out
    assert "nothing to repair" in said
    assert said.endswith("contact sheet: doctor.png\n")
    assert [path.name for path in here.iterdir()] == ["doctor.png"]
    with Image.open(here / "doctor.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"


def test_a_problem_is_status_1_and_named_with_its_remedy(dataroot, capsys) -> None:
    (dataroot / "trainA/broken.png").write_bytes(b"no image")
    assert main([str(dataroot)]) == 1
    said = capsys.readouterr().out
    assert "error: 1 not images" in said
    assert "trainA/broken.png (not an image)" in said
    assert "do: fetch or export them again, or remove them" in said
    assert "to repair: 1 error\n" in said


def test_notes_alone_are_status_0(dataroot, picture) -> None:
    picture(seed=99).convert("RGBA").save(dataroot / "trainA/alpha.png")
    picture(seed=98).save(dataroot / "trainA/really.jpg", "PNG")
    assert main([str(dataroot)]) == 0


def test_a_few_of_many_files_are_named_and_the_rest_counted(dataroot, capsys) -> None:
    for number in range(9):
        (dataroot / f"trainA/empty{number}.png").touch()
    assert main([str(dataroot)]) == 1
    said = capsys.readouterr().out
    assert "error: 9 empty" in said
    assert "empty4.png" in said
    assert "empty5.png" not in said
    assert "  and 4 more\n" in said


def test_json_is_all_of_stdout_and_names_every_file(dataroot, here, capsys) -> None:
    for number in range(9):
        (dataroot / f"trainA/empty{number}.png").touch()
    found = report(capsys, dataroot)
    assert found["ok"] is False
    assert found["dataroot"] == str(dataroot)
    assert list(found["parts"]) == ["trainA", "trainB", "testA", "testB"]
    part = found["parts"]["trainA"]
    assert (part["num_images"], part["num_usable"], part["typical_size"]) == (14, 5, [52, 44])
    (finding,) = found["findings"]
    assert (finding["kind"], finding["severity"], finding["count"]) == ("empty", "error", 9)
    files = [f"trainA/empty{number}.png" for number in range(9)]
    assert finding["found"] == [{"files": [file], "detail": "empty file"} for file in files]
    assert (here / "doctor.png").is_file()


def test_dir_a_and_dir_b_need_no_data_folder(dataroot, capsys) -> None:
    words = ("--dir_A", dataroot / "trainA", "--dir_B", dataroot / "trainB")
    found = report(capsys, *words)
    assert (found["ok"], found["dataroot"]) == (True, None)
    assert list(found["parts"]) == ["trainA", "trainB"]


def test_unprintable_names_are_printed_with_question_marks(dataroot, capsys) -> None:
    try:
        (dataroot / "trainA/a\nb.png").touch()
        Path(os.fsdecode(os.fsencode(dataroot) + b"/trainA/\xff[red].png")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    assert main([str(dataroot)]) == 1
    said = capsys.readouterr().out
    assert "trainA/a?b.png (empty file)" in said
    assert "trainA/?[red].png (empty file)" in said
    files = [one["files"][0] for one in report(capsys, dataroot)["findings"][0]["found"]]
    assert files == ["trainA/a\nb.png", "trainA/\udcff[red].png"]


def test_sheet_none_writes_no_file(dataroot, here, capsys) -> None:
    assert main([str(dataroot), "--sheet", "none"]) == 0
    assert list(here.iterdir()) == []
    assert "contact sheet" not in capsys.readouterr().out


def test_the_sheet_is_the_same_each_time_and_taller_with_findings(dataroot, here, picture) -> None:
    for name in ("one.png", "two.png"):
        main([str(dataroot), "--sheet", name])
    assert (here / "one.png").read_bytes() == (here / "two.png").read_bytes()
    Image.new("RGB", (40, 40), "red").save(dataroot / "trainA/flat.png")
    main([str(dataroot), "--sheet", "three.png"])
    with Image.open(here / "one.png") as clean, Image.open(here / "three.png") as flagged:
        assert flagged.width == clean.width
        assert flagged.height > clean.height
        # The flat image as it is, and the colour of a warning about it.
        colours = {colour for _, colour in flagged.convert("RGB").getcolors(2**24) or ()}
        assert {(255, 0, 0), (224, 134, 0)} <= colours


def test_a_sheet_is_drawn_if_no_image_can_be_read(dataroot, here) -> None:
    for path in (dataroot / "trainA").iterdir():
        path.write_bytes(b"")
    assert main([str(dataroot)]) == 1
    assert (here / "doctor.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the data folder: doctor DATAROOT"),
        (["gone"], "DATAROOT gone is not a folder"),
        (["."], "has no folder trainA or A"),
        (["--dir_A", "."], "give the data folder: doctor DATAROOT, or both --dir_A and --dir_B"),
        (["--dir_A", ".", "--dir_B", "gone"], "--dir_B gone is not a folder"),
        ([".", "--sheet", "sheet.jpg"], "--sheet sheet.jpg: give a name that ends in .png"),
        ([".", "--sheets", "x"], "did you mean sheet?"),
    ],
)
def test_a_users_mistake_is_refused(words, message: str) -> None:
    with pytest.raises(UserError) as caught:
        main(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["trainA/sheet.png", "testB/sub/sheet.png"])
def test_a_sheet_among_the_images_is_refused(dataroot, place: str) -> None:
    with pytest.raises(UserError, match="would lie among the images"):
        main([str(dataroot), "--sheet", str(dataroot / place)])
    assert not (dataroot / place).exists()


def test_the_demo_data_have_nothing_to_repair(capsys) -> None:
    found = report(capsys, ROOT / "data/lr2hr", "--sheet", "none")
    assert found["ok"]
    assert [finding["kind"] for finding in found["findings"]] == ["paired_test"]


def test_the_real_command_answers_with_its_status(dataroot, here) -> None:
    (dataroot / "trainA/empty.png").touch()
    done = subprocess.run(
        [sys.executable, "-m", "cyclegan", "doctor", str(dataroot), "--json"],
        **{"capture_output": True, "text": True, "cwd": here},
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["ok"] is False


def test_a_users_mistake_is_one_line_and_status_2(capsys) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        main(["gone"])
    assert stop.value.code == 2
    expected = ("", "error: DATAROOT gone is not a folder: check the path\n")
    assert capsys.readouterr() == expected
