"""python -m cyclegan evaluate: the published figures of bicubic, and every way to ask for them."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import make_run, save

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import to_yaml
from cyclegan.evaluation.command import main
from cyclegan.evaluation.super_resolution import (
    SuperResolution,
    as_upscaler,
    luma,
    score,
)
from cyclegan.networks.generators.bicubic import Bicubic, downscale, upscale
from cyclegan.networks.generators.srcnn import SRCNN
from cyclegan.networks.layers import initialize
from cyclegan.runs import checkpoints

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# Set, scale, PSNR in dB, SSIM, as published; Set14 of several authors differs a little more.
PUBLISHED = [
    ("sr_set5", 2, 33.66, 0.9292),
    ("sr_set5", 3, 30.39, 0.8678),
    ("sr_set5", 4, 28.42, 0.8101),
    ("sr_set14", 2, 30.24, 0.8683),
    ("sr_set14", 3, 27.55, 0.7737),
    ("sr_set14", 4, 26.00, 0.7023),
]


@pytest.mark.parametrize(("name", "scale", "psnr", "similarity"), PUBLISHED)
def test_bicubic_has_its_published_figures(name, scale, psnr, similarity) -> None:
    folder = DATA / name / "hr"
    if not folder.is_dir():
        pytest.skip(f"needs the {name} images in {folder}")
    results = SuperResolution({"bicubic": partial(upscale, scale=scale)}, scale=scale)
    for path in folder.iterdir():
        results.measure(path)
    assert results.problems == {}
    mean = results.mean()["bicubic"]
    assert mean.psnr == pytest.approx(psnr, abs=0.03 if name == "sr_set5" else 0.12)
    assert mean.ssim == pytest.approx(similarity, abs=0.002)


def test_psnr_and_ssim_are_the_formulas_at_every_whole_window() -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (18, 17))
    y = np.clip(x + random.integers(-60, 61, x.shape), 0, 255)
    images = [Image.fromarray(part.astype(np.uint8)).convert("RGB") for part in (x, y)]
    x, y = (part[2:-2, 2:-2].astype(float) for part in (x, y))
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for row in range(4):
        for column in range(3):
            a, b = (part[row : row + 11, column : column + 11] for part in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = ((weights * (p - m) ** 2).sum() for p, m in ((a, mean_a), (b, mean_b)))
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 2.55**2, 7.65**2
            found.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    measured = score(*images, border=2, full_range=True)
    assert measured.ssim == pytest.approx(np.mean(found), rel=1e-9)
    assert measured.psnr == pytest.approx(10 * math.log10(255**2 / ((x - y) ** 2).mean()))
    assert score(images[0], images[0], border=2).ssim == pytest.approx(1)


@pytest.mark.parametrize(
    ("color", "level"),
    [
        ("white", 235),
        ("black", 16),
        ((255, 0, 0), 81),
        ((0, 255, 0), 145),
        ((0, 0, 255), 41),
    ],
)
def test_luma_is_that_of_bt_601(color, level: int) -> None:
    assert luma(Image.new("RGB", (2, 3), color)).tolist() == [[level] * 2] * 3


def test_luma_of_gray_files_is_their_levels() -> None:
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    assert luma(image, full_range=True).flatten().tolist() == list(range(256))


def test_the_border_does_not_count(picture) -> None:
    image = picture((30, 30))
    framed = Image.new("RGB", (30, 30), "white")
    framed.paste(image.crop((2, 2, 28, 28)), (2, 2))
    assert score(framed, image, border=2).psnr == math.inf
    assert score(framed, image, border=1).psnr < 40


def test_gray_levels_count_in_full(tmp_path: Path, picture) -> None:
    """A gray file by the formula on its own levels: 20 log10(255) less the error in dB."""
    gray = picture((32, 32)).convert("L")
    gray.save(tmp_path / "gray.png")
    results = SuperResolution({"bicubic": partial(upscale, scale=2)}, scale=2)
    results.measure(tmp_path / "gray.png")
    image = gray.convert("RGB")
    back = np.asarray(upscale(downscale(image, 2), 2))[2:-2, 2:-2, 0].astype(float)
    error = ((back - np.asarray(gray)[2:-2, 2:-2]) ** 2).mean()
    assert results.mean()["bicubic"].psnr == pytest.approx(10 * math.log10(255**2 / error))


def test_a_generator_that_keeps_the_size_is_given_the_enlarged_image(picture) -> None:
    small = picture((9, 8))
    assert as_upscaler(lambda image: image, 3, own_scale=1)(small) == upscale(small, 3)
    assert as_upscaler(lambda image: image, 3, own_scale=3)(small) is small


@pytest.fixture
def photos(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path / "hr", 3, size=(41, 36))
    return tmp_path / "hr"


@pytest.fixture
def evaluate(tmp_path: Path):
    def call(*words: object) -> int:
        arguments = ["--checkpoints_dir", tmp_path / "checkpoints", "--device", "cpu", *words]
        return main([str(word) for word in arguments])

    return call


def figures(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def make_enlarging_run(root: Path) -> None:
    folder = root / "checkpoints" / "twice"
    folder.mkdir(parents=True)
    values = {"name": "twice", "dataroot": root, "generator": "bicubic", "scale": 2}
    (folder / "settings.yaml").write_text(to_yaml(check(TrainSettings, values)))
    checkpoints.save_weights(folder, "latest", {"G_AB": Bicubic(scale=2)})


def test_a_run_that_enlarges_is_measured_at_its_own_scale(
    evaluate, photos: Path, tmp_path: Path, capsys
) -> None:
    make_enlarging_run(tmp_path)
    assert evaluate("--name", "twice", "--hr", photos, "--json", tmp_path / "x/y.json") == 0
    found = figures(tmp_path / "x/y.json")
    assert found["scale"] == 2
    assert set(found["images"]) == {"000.png", "001.png", "002.png"}
    # A fixed bicubic generator is what it stands beside.
    for scores in (found["mean"], *found["images"].values()):
        assert scores["twice"] == pytest.approx(scores["bicubic"], rel=1e-3)
    table = capsys.readouterr().out
    for word in ("x2", "000.png", "mean", "SWD", f"{found['mean']['twice']['psnr']:.2f} dB"):
        assert word in table


def test_a_run_is_not_measured_at_another_scale_than_its_own(evaluate, photos, tmp_path) -> None:
    make_enlarging_run(tmp_path)
    with pytest.raises(UserError, match="--scale 3: twice enlarges 2 times"):
        evaluate("--name", "twice", "--hr", photos, "--scale", 3)


def test_a_run_that_keeps_the_size_is_measured_on_the_enlarged_image(
    evaluate, photos: Path, tmp_path: Path
) -> None:
    make_run(tmp_path)
    words = ["--name", "demo", "--trust_imports", "--hr", photos]
    with pytest.raises(UserError, match="give --scale 2, 3 or 4"):
        evaluate(*words)
    assert evaluate(*words, "--scale", 2, "--json_file", tmp_path / "y.json") == 0
    means = figures(tmp_path / "y.json")["mean"]
    # Three levels brighter everywhere; the structure is as it was.
    assert means["demo"]["psnr"] < means["bicubic"]["psnr"]
    assert means["demo"]["ssim"] == pytest.approx(means["bicubic"]["ssim"], abs=0.01)


def test_without_photographs_a_run_is_measured_on_its_own_test_images(
    evaluate, tmp_path: Path, capsys
) -> None:
    make_run(tmp_path)
    with pytest.raises(UserError, match="no images in testA and testB: give --hr"):
        evaluate("--name", "demo", "--trust_imports")
    for folder in ("testA", "testB"):
        save(tmp_path / "data" / folder / "a.png", seed=1)
    assert evaluate("--name", "demo", "--trust_imports", "--json", tmp_path / "y.json") == 0
    assert "PSNR to real B: input inf dB" in capsys.readouterr().out
    found = figures(tmp_path / "y.json")
    assert (found["images"], found["psnr_input"]) == (1, None)
    # Three levels of 255 off: 20 log10(255 / 3).
    assert found["psnr_fake"] == pytest.approx(20 * math.log10(85), abs=1e-3)


def test_what_cannot_be_measured_is_named_and_the_rest_is(
    evaluate, photos: Path, tmp_path: Path, capsys
) -> None:
    (photos / "text.png").write_text("no image")
    save(photos / "small.png", size=(40, 14))
    save(photos / "dot.png", size=(1, 1))
    words = ["--method", "bicubic", "--hr", photos, "--scale", 2, "--json", tmp_path / "y.json"]
    assert evaluate(*words) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"not measured: {photos / 'dot.png'} (1x1 px cannot be made 2 times smaller)",
        f"not measured: {photos / 'small.png'} "
        "(too small: 40x14 px, at least 15 needed at --scale 2)",
        f"not measured: {photos / 'text.png'} (not an image)",
    ]
    assert len(figures(tmp_path / "y.json")["images"]) == 3


def test_where_nothing_can_be_measured_there_is_no_table(evaluate, tmp_path, capsys) -> None:
    save(tmp_path / "hr" / "a.png", size=(5, 5))
    assert evaluate("--method", "bicubic", "--hr", tmp_path / "hr", "--scale", 2) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --name RUN, --weights FILE.pth and --method bicubic"),
        (["--name", "a", "--method", "bicubic"], "give one of"),
        (["--method", "bicubic"], "give --hr FOLDER"),
        (["--name", "a", "--scale", "2"], "give --hr FOLDER with it"),
        (["--method", "bicubic", "--hr", "gone", "--scale", "2"], "gone is not a folder"),
        (["--method", "bicubic", "--hr", "empty", "--scale", "2"], "empty holds no images"),
        (["--method", "bicubic", "--hr", "hr"], "give --scale 2, 3 or 4"),
        (["--method", "bicubic", "--hr", "hr", "--scale", "5"], "--scale"),
        (["--method", "bicubik", "--hr", "hr"], "--method"),
        (["--name", "gone", "--hr", "hr", "--scale", "2"], "gone"),
        (["--weights", "gone.pth", "--hr", "hr", "--scale", "2"], "gone.pth is not there"),
        (["--nmae", "x"], "did you mean name?"),
    ],
)
def test_a_mistake_is_one_line(evaluate, photos, tmp_path, monkeypatch, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        evaluate(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_alone_is_measured_at_the_scale_it_tells(
    evaluate, photos: Path, tmp_path: Path
) -> None:
    network = SRCNN(spec="4x3x3_1x3x3", scale=2)
    # Its correction begins at 0: the bicubic enlargement.
    initialize(network)
    torch.save(network.state_dict(), tmp_path / "twice.pth")
    file = tmp_path / "y.json"
    assert evaluate("--weights", tmp_path / "twice.pth", "--hr", photos, "--json", file) == 0
    found = figures(file)
    assert found["scale"] == 2
    assert found["mean"]["twice"] == pytest.approx(found["mean"]["bicubic"], rel=1e-6)
