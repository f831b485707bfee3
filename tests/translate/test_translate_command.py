"""test.py: mistakes, weights without a run, and the test images under the classic names."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from support.toys import levels, make_run, on_cpu, one_line, run_command, save, small_resnet
from torch import nn

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


@pytest.fixture
def translate(run: Path, tmp_path: Path) -> Callable[..., int]:
    return partial(run_command, tmp_path)


def test_one_line_is_printed_if_stdout_is_no_terminal(translate, tmp_path: Path, capsys) -> None:
    assert translate("--input", save(tmp_path / "a.png"), "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out == f"1 images written to {tmp_path / 'out'}\n"


def test_a_missing_input_is_one_line(translate, tmp_path: Path, capsys) -> None:
    assert translate("--input", tmp_path / "gone") == 2
    assert f"--input {tmp_path / 'gone'} is not there" in one_line(capsys)


def test_a_missing_run_is_one_line(translate, tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "a.png")
    assert translate("--input", source, name="gone") == 2
    assert "--name" in one_line(capsys)
    assert translate(name="gone") == 2
    assert "runs there: demo" in one_line(capsys)


def test_neither_a_run_nor_weights_is_one_line(translate, capsys) -> None:
    assert translate(name=None) == 2
    assert "give --name of a run, or --weights" in one_line(capsys)


def test_a_missing_epoch_is_one_line(translate, tmp_path: Path, capsys) -> None:
    assert translate("--input", save(tmp_path / "a.png"), "--epoch", "99") == 2
    assert "--epoch may be latest" in one_line(capsys)


def test_weights_without_an_input_are_one_line(translate, run: Path, capsys) -> None:
    assert translate("--weights", run / "latest_net_G_A.pth", name=None) == 2
    assert "--weights needs --input" in one_line(capsys)


def test_a_file_in_the_outputs_place_is_one_line(translate, tmp_path: Path, capsys) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("mine")
    assert translate("--input", tmp_path / "in", "--output", tmp_path / "out") == 2
    assert str(tmp_path / "out") in one_line(capsys)
    assert (tmp_path / "out").read_text() == "mine"


def test_no_test_images_at_all_is_one_line(translate, tmp_path: Path, capsys) -> None:
    assert translate() == 2
    assert "no images in testA or testB: give --input" in one_line(capsys)
    for folder in ("testA", "testB"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    assert translate() == 2
    assert str(tmp_path / "data") in one_line(capsys)


def test_test_py_refuses_hostile_weights_in_one_line(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "mark"),)

    torch.save({"model.1.weight": Hostile()}, tmp_path / "evil.pth")
    save(tmp_path / "a.png")
    words = ["--weights", "evil.pth", "--input", "a.png", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, ROOT / "test.py", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: evil.pth is damaged or not a checkpoint")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mark").exists()


def test_weights_alone_translate_a_folder(translate, tmp_path: Path) -> None:
    network = small_resnet()
    torch.save(nn.DataParallel(network).state_dict(), tmp_path / "horse2zebra.pth")
    source = save(tmp_path / "in" / "a.png", size=(17, 31))
    words = ["--weights", tmp_path / "horse2zebra.pth", "--input", tmp_path / "in"]
    # On some CPUs auto is bf16, which differs by one gray level in places.
    assert translate(*words, "--precision", "fp32", name=None) == 0
    target = tmp_path / "results/horse2zebra/test_latest/in_AtoB/a.png"
    assert (levels(target) == levels(on_cpu(network)(source))).all()


def test_trusted_weights_of_a_network_with_an_import_path_translate(
    translate, run: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "a.png")
    words = ["--weights", run / "latest_net_G_B.pth", "--input", source]
    assert translate(*words, "--output", tmp_path / "b.png", name=None) == 0
    assert (levels(tmp_path / "b.png") - levels(source) == -5).all()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for folder, seed in (("testA", 1), ("testB", 2)):
        save(tmp_path / "data" / folder / "x.bmp", seed=seed)
        save(tmp_path / "data" / folder / "sub" / "y.png", seed=seed + 2)
    return tmp_path / "results" / "demo" / "test_latest" / "images"


def test_the_test_images_go_both_ways_under_the_classic_names(
    translate, results: Path, tmp_path: Path
) -> None:
    assert translate() == 0
    kinds = ("real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B")
    expected = {f"{stem}_{kind}.png" for stem in ("x", "sub/y") for kind in kinds}
    assert {str(path.relative_to(results)) for path in results.rglob("*.png")} == expected
    for here, there, folder, by in (("A", "B", "testA", 3), ("B", "A", "testB", -5)):
        for stem, source in (("x", "x.bmp"), ("sub/y", "sub/y.png")):
            real = levels(tmp_path / "data" / folder / source)
            assert (levels(results / f"{stem}_real_{here}.png") == real).all()
            assert (levels(results / f"{stem}_fake_{there}.png") - real == by).all()
            assert (levels(results / f"{stem}_rec_{here}.png") - real == 3 - 5).all()


@pytest.mark.parametrize("words", [[], ["--input", "in", "--output", "out"]])
def test_a_dry_run_says_what_would_be_translated_and_writes_nothing(
    words: list[str], translate, results: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in" / "a.png")
    before = sorted(tmp_path.rglob("*"))
    assert translate(*words, "--dry_run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    printed = capsys.readouterr().out.splitlines()
    run = tmp_path / "checkpoints" / "demo"
    if words:
        assert printed == [f"would translate AtoB by {run}: 1 of 1 images to out"]
    else:
        assert printed[0] == f"would copy: 2 of 2 images to {results}"
        assert printed[1] == f"would translate AtoB by {run}: 2 of 2 images to {results}"
        assert len(printed) == 6


def test_a_dry_run_finds_missing_weights(translate, run: Path, tmp_path: Path, capsys) -> None:
    (run / "latest_net_G_A.pth").unlink()
    assert translate("--input", save(tmp_path / "a.png"), "--dry_run") == 2
    assert "latest" in one_line(capsys)


def test_one_direction_translates_one_folder(translate, results: Path) -> None:
    assert translate("--direction", "BtoA") == 0
    names = {path.name for path in results.iterdir() if path.is_file()}
    assert names == {"x_real_B.png", "x_fake_A.png", "x_rec_B.png"}


def test_one_test_folder_is_enough(translate, tmp_path: Path) -> None:
    save(tmp_path / "data" / "testA" / "x.png")
    assert translate() == 0
    images = tmp_path / "results/demo/test_latest/images"
    names = {path.name for path in images.iterdir()}
    assert names == {"x_real_A.png", "x_fake_B.png", "x_rec_A.png"}


def test_test_images_of_one_stem_are_all_kept(translate, tmp_path: Path) -> None:
    names = ("x.png", "x.bmp", "x.bmp.png", "z.tif")
    for seed, name in enumerate(names):
        save(tmp_path / "data" / "testA" / name, seed=seed)
    assert translate() == 0
    images = tmp_path / "results/demo/test_latest/images"
    written = {levels(path).tobytes() for path in images.glob("*_real_A.png")}
    assert written == {levels(tmp_path / "data" / "testA" / name).tobytes() for name in names}
    assert (images / "z_fake_B.png").is_file()


def test_an_unreadable_test_image_is_listed_once(
    translate, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "testA" / "bad.png").write_text("no image")
    assert translate() == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "bad.png" in errors[0]
    assert (results / "x_rec_B.png").is_file()


def test_another_dataroot_may_be_given(translate, tmp_path: Path) -> None:
    save(tmp_path / "other" / "testB" / "x.png")
    assert translate("--dataroot", tmp_path / "other", "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "x_fake_A.png").is_file()
