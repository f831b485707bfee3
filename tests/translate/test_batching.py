"""How a folder is translated: precision, batch sizes, compiled sizes, and the eager fallback."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.toys import levels, make_run, on_cpu, picture, run_command, save, small_resnet
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.hardware import devices
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.translate.batching import BatchPlanner
from cyclegan.translate.translator import Translator

CPU = torch.device("cpu")
COMPILED = ExecutionPlan(compile="default")


class Recorder(nn.Module):
    """Darkens by 2 levels, and records the shapes of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        return image - 4 / 255


def planner(**options) -> BatchPlanner:
    return BatchPlanner(CPU, **options)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Replaces torch.compile by a function that compiles nothing, and records its options."""
    calls: list[dict] = []

    def compile(function: Callable, **options) -> Callable:
        calls.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    return calls


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(function: Callable, **options) -> Callable:
        def fail(*_, **__) -> None:
            raise FileNotFoundError("g++: no\nsuch file")

        return fail

    monkeypatch.setattr(torch, "compile", compile)


def test_half_precision_stays_within_a_few_levels_of_float32():
    images = [picture((40, 36), seed=seed) for seed in range(2)]
    half = Translator(small_resnet(), device=CPU, plan=ExecutionPlan("bf16", channels_last=True))
    for one, other in zip(half.batch(images), on_cpu(small_resnet()).batch(images), strict=True):
        difference = abs(levels(one) - levels(other))
        assert 0 < difference.mean() < 2
        assert difference.max() < 16


def test_a_network_in_training_keeps_its_memory_format_and_mode(tmp_path: Path):
    network = small_resnet()
    network.train()
    blocks = [module for module in network.modules() if hasattr(module, "recompute")]
    for block in blocks:
        block.recompute = True
    strides = [parameter.stride() for parameter in network.parameters()]
    on_cpu(network)(picture())
    assert blocks
    assert all(block.recompute for block in blocks)
    assert network.training
    assert [parameter.stride() for parameter in network.parameters()] == strides


def test_the_last_batch_is_padded_for_the_compiled_network(compilations):
    network = Recorder()
    translator = on_cpu(network)
    translator.compile({(20, 16): 3}, COMPILED)
    images = [picture(seed=seed) for seed in range(5)]
    fakes = translator.batch(images[:3]) + translator.batch(images[3:])
    assert network.shapes == [(3, 3, 16, 20)] * 2
    for image, fake in zip(images, fakes, strict=True):
        assert (levels(fake) - levels(image) == -2).all()


def test_images_of_other_sizes_are_not_padded(compilations):
    network = Recorder()
    translator = on_cpu(network)
    translator.compile({(20, 16): 3}, COMPILED)
    translator.batch([picture((16, 20))])
    assert network.shapes == [(1, 3, 20, 16)]


def test_a_failing_compiler_is_reported_once_and_the_images_are_translated(broken_compiler, said):
    translator = on_cpu(Recorder())
    translator.compile({(20, 16): 2, (16, 20): 2}, COMPILED)
    for size in ((20, 16), (20, 16), (16, 20)):
        image = picture(size)
        assert (levels(translator.batch([image])[0]) - levels(image) == -2).all()
    assert len(said) == 2
    assert "compiling for images of 20x16 px" in said[0]
    assert said[1].startswith("warning: this cannot be compiled")
    assert "\n" not in said[1]


def test_an_error_of_the_network_is_not_taken_for_one_of_the_compiler(compilations):
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError("shape mismatch")

    translator = on_cpu(Broken())
    translator.compile({(20, 16): 2}, COMPILED)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        translator.batch([picture()])


@pytest.mark.parametrize(
    ("device", "size", "scale", "expected"),
    [
        ("cpu", (256, 256), 1, 1),
        ("cpu", (128, 128), 1, 2),
        ("cpu", (4000, 3000), 1, 1),
        ("cuda", (256, 256), 1, 16),
        ("cuda", (256, 256), 4, 1),
        ("cuda", (1024, 512), 1, 2),
        ("cuda", (8, 8), 1, 64),
    ],
)
def test_the_batch_size_depends_on_device_and_pixels(device, size, scale, expected):
    made = planner()
    made.device = torch.device(device)
    translator = on_cpu(nn.Identity())
    translator.scale = scale
    assert made.batch_sizes(translator, {size: 100}) == {size: expected}


def test_a_given_batch_size_is_used():
    made = planner(batch_size=5)
    assert made.batch_sizes(on_cpu(nn.Identity()), {(9, 9): 2, (999, 999): 70}) == {
        (9, 9): 5,
        (999, 999): 5,
    }


@pytest.mark.parametrize(
    ("device", "half", "count", "worth"),
    [
        ("cpu", False, 10**6, False),
        ("cpu", True, 1007, False),
        ("cpu", True, 1008, True),
        ("cuda", True, 30_517, False),
        ("cuda", True, 30_518, True),
        ("cuda", False, 30_518, True),
        ("mps", False, 10**6, False),
    ],
)
def test_compiling_is_worth_it_from_a_number_of_pixels(device, half, count, worth, compilations):
    made = planner()
    made.device, made.is_half, made.has_compiler = torch.device(device), half, True
    translator = on_cpu(nn.Identity())
    made.batch_sizes(translator, {(256, 256): count, (8, 8): 3})
    assert (translator.compiled is not None) == worth
    if translator.compiled:
        assert list(translator.compiled.batch_sizes) == [(256, 256)]


def test_nothing_is_compiled_without_a_compiler(compilations):
    made = planner()
    made.is_half, made.has_compiler = True, False
    made.batch_sizes(on_cpu(nn.Identity()), {(256, 256): 10**6})
    assert compilations == []


def test_the_most_frequent_sizes_are_compiled_if_an_option_says_so(compilations, monkeypatch):
    monkeypatch.setattr(devices, "has_compiler", lambda device: True)
    translator = on_cpu(nn.Identity())
    planner(compile="max").batch_sizes(translator, {(side, 9): side for side in range(1, 8)})
    assert translator.compiled is not None
    translator.compiled.executor(torch.zeros(1, 3, 9, 7))
    assert compilations[0]["mode"] == "max-autotune-no-cudagraphs"
    assert list(translator.compiled.batch_sizes) == [(7, 9), (6, 9), (5, 9), (4, 9)]


def test_compiling_without_a_compiler_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(devices, "has_compiler", lambda device: False)
    with pytest.raises(UserError, match="--compile default needs .*: use --compile off"):
        planner(compile="default")


def test_the_command_compiles_if_an_option_says_so(
    tmp_path: Path, compilations, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "has_compiler", lambda device: True)
    make_run(tmp_path)
    sources = [save(tmp_path / "in" / f"{index}.png", seed=index) for index in range(3)]
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--compile", "default"]
    assert run_command(tmp_path, *words) == 0
    assert len(compilations) == 1
    for source in sources:
        assert (levels(tmp_path / "out" / source.name) - levels(source) == 3).all()


def test_the_command_takes_half_precision(tmp_path: Path):
    make_run(tmp_path)
    source = save(tmp_path / "in" / "a.png")
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--precision", "bf16"]
    assert run_command(tmp_path, *words) == 0
    # A sum is not rounded: autocast is for convolutions and products.
    assert (levels(tmp_path / "out" / "a.png") - levels(source) == 3).all()
