"""Networks as a device runs them best give what they give anyhow."""

import copy

import pytest
import torch
from torch import nn

from cyclegan.config import expressions, parts
from cyclegan.losses.adversarial import judge, judge_both
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.execution import (
    PLAIN,
    Running,
    Speed,
    is_per_sample,
)
from cyclegan.networks.layers import Block, initialize

SIDE = 64


def network(name, table, **options):
    torch.manual_seed(0)
    made = parts.build(expressions.parse_one(name, option="x"), table, channels=8, **options)
    initialize(made)
    return made.double()


def batches(count=2, size=2, channels=3):
    generator = torch.Generator().manual_seed(1)
    shape = (count, size, channels, SIDE, SIDE)
    return list(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "name", [name for name in GENERATORS if name not in ("unet", "bicubic")] + ["unet(layers=4)"]
)
def test_batches_side_by_side_give_the_images_and_gradients_of_each_alone(name):
    made = network(name, GENERATORS)
    together, apart = Running(made), Running(copy.deepcopy(made), Speed(joined=False))
    assert together.per_sample
    for running in (together, apart):
        images = running.side_by_side(batches())
        sum(((i + 1) * image.square()).sum() for i, image in enumerate(images)).backward()
        running.images = images
    for mine, its in zip(together.images, apart.images, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)
    expected = gradients(apart.network)
    assert expected
    for key, gradient in gradients(together.network).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["patch", "pixel", "multiscale(scales=2, layers=2)"])
def test_a_judge_of_single_images_sees_fakes_and_real_ones_in_one_pass(name):
    made = network(name, DISCRIMINATORS)
    calls = []
    made.register_forward_hook(lambda *_: calls.append(1))
    fake, real = batches()
    fakes, reals = judge_both(Running(made), fake, real)
    assert len(calls) == 1
    for mine, its in (
        (fakes, judge(made, fake, real=False)),
        (reals, judge(made, real, real=True)),
    ):
        for a, b in zip(mine, its, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("resnet(norm=batch)", GENERATORS),
        ("resnet(dropout=true)", GENERATORS),
        ("edsr(noise=1)", GENERATORS),
        ("patch(norm=batch)", DISCRIMINATORS),
        ("patch(norm=spectral)", DISCRIMINATORS),
        ("batch_head", DISCRIMINATORS),
    ],
)
def test_what_depends_on_other_images_chance_or_the_count_of_calls_is_never_put_together(
    name, table
):
    assert not is_per_sample(network(name, table))
    assert not Running(network(name, table)).per_sample


def test_of_a_network_of_the_users_own_nothing_is_assumed():
    class Own(nn.Module):
        def forward(self, image):
            return image - image.mean()

    running = Running(Own())
    first, second = batches()
    for image, expected in zip(running.side_by_side([first, second]), (first, second), strict=True):
        torch.testing.assert_close(image, expected - expected.mean())


def test_batches_of_several_sizes_pass_in_turn():
    made = network("resnet(blocks=1)", GENERATORS)
    large, small = batches()
    small = small[..., :32, :32]
    images = Running(made).side_by_side([large, small])
    assert [image.shape[-1] for image in images] == [SIDE, 32]
    torch.testing.assert_close(images[1], made(small))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside(precision):
    made = network("resnet(blocks=1)", GENERATORS).float()
    seen = []
    made.model[1].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    image = batches()[0].float()
    output = Running(made, Speed(precision=precision))(image)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert output.dtype == torch.float32
    assert (output - made(image)).abs().max() < 0.05
    output.sum().backward()
    assert {p.grad.dtype for p in made.parameters()} == {torch.float32}


def test_channels_last_changes_the_layout_and_not_the_values():
    made = network("resnet(blocks=1)", GENERATORS)
    image = batches()[0]
    expected = made(image)
    running = Running(made, Speed(channels_last=True))
    torch.testing.assert_close(running(image), expected, rtol=1e-10, atol=1e-10)
    assert made.model[4].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name", ["resnet(blocks=2)", "attention(blocks=2)", "edsr", "rrdb(blocks=1)"]
)
def test_blocks_computed_again_give_the_same_gradients_and_keep_less(name):
    kept = {}
    for checkpointed in (False, True):
        made = network(name, GENERATORS)
        running = Running(made, Speed(checkpointed=checkpointed))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            output = running(batches()[0])
        output.square().sum().backward()
        kept[checkpointed] = sum(saved), gradients(made)
    assert kept[True][0] < kept[False][0]
    for key, gradient in kept[True][1].items():
        torch.testing.assert_close(gradient, kept[False][1][key], rtol=1e-12, atol=1e-12)


def test_an_averaged_copy_of_a_network_computes_nothing_again():
    made = network("resnet(blocks=1)", GENERATORS)
    Running(made, Speed(checkpointed=True))
    Running(made, PLAIN)
    assert not any(m.recompute for m in made.modules() if isinstance(m, Block))


def test_a_network_is_compiled_once_and_only_when_it_is_called(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    running = Running(network("resnet(blocks=1)", GENERATORS), Speed(compile="default"))
    assert not compiled
    for _ in range(2):
        running(batches()[0])
    assert len(compiled) == 1


def test_a_network_that_cannot_be_compiled_runs_as_it_is(monkeypatch):
    def broken(function, **_):
        def fail(*args, **kwargs):
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    made = network("resnet(blocks=1)", GENERATORS)
    running = Running(made, Speed(compile="default"))
    image = batches()[0]
    with pytest.raises(RuntimeError, match="no compiler"):
        running(image)
    running.uncompile()
    torch.testing.assert_close(running(image), made(image))
