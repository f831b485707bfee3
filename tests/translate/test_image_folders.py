"""Translation of folders and of single files."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from support.toys import Brighter, levels, make_run, on_cpu, one_line, picture, run_command, save
from torch import nn

from cyclegan.config.errors import UserError
from cyclegan.runs import checkpoints
from cyclegan.translate import image_folders
from cyclegan.translate.image_folders import TranslationJob, find_jobs, translate_files


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


@pytest.fixture
def translate(run: Path, tmp_path: Path) -> Callable[..., int]:
    return partial(run_command, tmp_path)


def test_sub_folders_and_names_are_kept(translate, tmp_path: Path) -> None:
    names = ["a.png", "deep/er/a.png", "deep/Photo 1.PNG", "x.y.png"]
    for name in names:
        save(tmp_path / "in" / name)
    assert translate("--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    written = [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")]
    assert sorted(written) == sorted(names)
    for name in names:
        assert (levels(tmp_path / "out" / name) - levels(tmp_path / "in" / name) == 3).all()


def test_equal_stems_do_not_overwrite_each_other(translate, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "a.bmp", "a.tif")):
        save(tmp_path / "in" / name, seed=seed)
    assert translate("--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    for name in ("a.png", "a.bmp", "a.tif"):
        assert (levels(tmp_path / "out" / name) - levels(tmp_path / "in" / name) == 3).all()


def test_images_of_many_sizes_are_translated_in_batches(translate, tmp_path: Path) -> None:
    for index in range(7):
        save(tmp_path / "in" / f"{index}.png", seed=index, size=[(20, 16), (9, 7)][index % 2])
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--batch_size", "3"]
    assert translate(*words) == 0
    for index in range(7):
        source, target = (tmp_path / folder / f"{index}.png" for folder in ("in", "out"))
        assert (levels(target) - levels(source) == 3).all()


def test_a_batch_holds_images_of_one_size_only(tmp_path: Path) -> None:
    seen: list[list[tuple[int, int]]] = []
    jobs = [
        TranslationJob(
            save(tmp_path / f"{i}.png", size=[(8, 9), (9, 8)][i % 2]), tmp_path / "out" / f"{i}.png"
        )
        for i in range(7)
    ]

    def note(images: list[Image.Image]) -> list[Image.Image]:
        seen.append([image.size for image in images])
        return images

    results = list(translate_files(note, jobs, batch_size=2, num_threads=2))
    assert {result.job for result in results} == set(jobs)
    assert sorted(seen) == [[(8, 9)] * 2, [(8, 9)] * 2, [(9, 8)], [(9, 8)] * 2]


def test_a_wrong_size_in_a_header_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folders, "image_size", lambda path: (1, 1))
    jobs = [
        TranslationJob(save(tmp_path / f"{i}.png", size=(8 + i, 9)), tmp_path / "out" / f"{i}.png")
        for i in range(3)
    ]
    results = list(translate_files(on_cpu(nn.Identity()).batch, jobs, batch_size=3, num_threads=1))
    assert [result.problem for result in results] == [None] * 3


def test_a_second_run_skips_what_is_there_and_overwrite_redoes_it(
    translate, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    source = save(tmp_path / "in" / "a.png")
    assert translate(*words) == 0
    save(tmp_path / "in" / "b.png")
    # Another image in its place shows whether it is written again.
    save(tmp_path / "out" / "a.png", seed=9)
    kept = levels(tmp_path / "out" / "a.png")
    assert translate(*words) == 0
    assert (levels(tmp_path / "out" / "a.png") == kept).all()
    assert (levels(tmp_path / "out" / "b.png") - levels(source) == 3).all()
    assert "1 were there already" in capsys.readouterr().out.splitlines()[-1]
    assert translate(*words, "--overwrite") == 0
    assert (levels(tmp_path / "out" / "a.png") - levels(source) == 3).all()


def test_translations_older_than_weights_or_source_are_made_again(
    translate, run: Path, tmp_path: Path
) -> None:
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    assert translate(*words) == 0
    for path in (tmp_path / "out").iterdir():
        os.utime(path, (1e9, 1e9))
    for path in [*(tmp_path / "in").iterdir(), *run.glob("*.pth")]:
        os.utime(path, (0.9e9, 0.9e9))
    source = save(tmp_path / "in" / "a.png", seed=3)
    before = levels(tmp_path / "out" / "b.png")
    assert translate(*words) == 0
    assert (levels(tmp_path / "out" / "a.png") - levels(source) == 3).all()
    assert (levels(tmp_path / "out" / "b.png") == before).all()
    checkpoints.save_weights(run, "latest", {"G_AB": Brighter(4)})
    assert translate(*words) == 0
    assert (levels(tmp_path / "out" / "b.png") - before == 1).all()


@pytest.mark.parametrize("batch_size", ["1", "4"])
def test_unreadable_images_are_listed_and_the_rest_is_done(
    batch_size: str, translate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "whole.jpg"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "text.jpg").write_text("not an image")
    (tmp_path / "in" / "empty.png").touch()
    cut = (tmp_path / "in" / "whole.jpg").read_bytes()
    (tmp_path / "in" / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--batch_size", batch_size]
    assert translate(*words) == 1
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.png", "b.png", "whole.jpg"]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    for name in ("text.jpg", "empty.png", "cut.jpg", "gone.png"):
        assert any(line.startswith("not translated: ") and name in line for line in errors)


def test_an_image_too_large_for_the_memory_is_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    def translate(images: list[Image.Image]) -> list[Image.Image]:
        if images[0].width > 20:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
        return images

    jobs = [
        TranslationJob(
            save(tmp_path / f"{side}.png", size=(side, 9)), tmp_path / "out" / f"{side}.png"
        )
        for side in (30, 10)
    ]
    results = translate_files(translate, jobs, batch_size=2, num_threads=1)
    problems = {result.job.source.name: result.problem for result in results}
    assert problems["10.png"] is None
    assert "30x9 px do not fit into memory" in str(problems["30.png"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["10.png"]


def test_an_error_in_the_program_is_not_hidden(tmp_path: Path) -> None:
    def translate(images: list[Image.Image]) -> list[Image.Image]:
        raise RuntimeError("shape mismatch")

    job = TranslationJob(save(tmp_path / "a.png"), tmp_path / "out.png")
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(translate_files(translate, [job], batch_size=1, num_threads=1))


def test_an_output_folder_inside_the_input_is_not_translated_again(
    translate, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert translate("--input", tmp_path / "in", "--output", tmp_path / "in" / "out") == 0
    images = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "in").rglob("*.png"))
    assert images == ["in/a.png", "in/out/a.png"]


@pytest.mark.parametrize("way", ["same", "dots", "link"])
def test_an_output_equal_to_the_input_is_refused(
    way: str, translate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "in" / "a.png")
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    output = {"same": "in", "dots": "in/../in", "link": "link"}[way]
    words = ["--input", tmp_path / "in", "--output", tmp_path / output, "--overwrite"]
    assert translate(*words) == 2
    assert "--output" in one_line(capsys)
    assert source.read_bytes() == before


def test_a_single_file_is_refused_as_its_own_output(translate, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    assert translate("--input", source, "--output", source, "--overwrite") == 2
    assert translate("--input", source, "--output", tmp_path, "--overwrite") == 2


def test_a_single_file_goes_to_a_single_file(translate, tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "new" / "b.png"
    assert translate("--input", source, "--output", target) == 0
    assert (levels(target) - levels(source) == 3).all()


def test_a_single_file_goes_into_a_folder_under_its_name(translate, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    assert translate("--input", source, "--output", tmp_path / "out") == 0
    assert (levels(tmp_path / "out" / "a.png") - levels(source) == 3).all()


@pytest.mark.parametrize("name", ["photo", "photo.gif", "photo.dat"])
def test_a_file_of_another_format_becomes_a_png(name: str, translate, tmp_path: Path) -> None:
    source = tmp_path / name
    picture(mode="P").save(source, "gif")
    assert translate("--input", source, "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]
    assert (levels(tmp_path / "out" / "photo.png") - levels(source) == 3).all()


def test_without_an_output_results_go_under_the_runs_name(translate, tmp_path: Path) -> None:
    save(tmp_path / "photos.v2" / "a.png")
    assert translate("--input", tmp_path / "photos.v2") == 0
    assert (tmp_path / "results/demo/test_latest/photos.v2_AtoB/a.png").is_file()


def test_direction_b_to_a_takes_the_other_generator(translate, tmp_path: Path) -> None:
    source = save(tmp_path / "in" / "a.png")
    assert translate("--input", tmp_path / "in", "--direction", "BtoA") == 0
    target = tmp_path / "results/demo/test_latest/in_BtoA/a.png"
    assert (levels(target) - levels(source) == -5).all()


def test_a_kept_epoch_is_used(translate, run: Path, tmp_path: Path) -> None:
    checkpoints.save_weights(run, 20, {"G_AB": Brighter(8)})
    source = save(tmp_path / "a.png")
    assert translate("--input", source, "--output", tmp_path / "b.png", "--epoch", "20") == 0
    assert (levels(tmp_path / "b.png") - levels(source) == 8).all()


def test_max_dataset_size_limits_the_images(translate, tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--max_dataset_size", "2"]
    assert translate(*words) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="--input .* holds no images"):
        find_jobs(tmp_path, tmp_path / "out")
