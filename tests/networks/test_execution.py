"""Every execution plan gives the results of the plain network."""

import copy

import pytest
import torch
from torch import nn

from cyclegan.config import expressions, parts
from cyclegan.losses import adversarial
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.execution import (
    EAGER_FP32,
    ExecutionPlan,
    Executor,
    configure,
    is_per_sample,
)
from cyclegan.networks.layers import ResidualBlock, initialize

SIDE = 64
# Networks of full size take seconds in float64 and test no more.
SMALL = {
    "unet": "unet(layers=4)",
    "dcscn": "dcscn(layers=3, filters=8, min_filters=4)",
    "rrdb": "rrdb(blocks=1, growth=4)",
    "srcnn": "srcnn(spec='8x5x5_1x3x3')",
    "vgg7": "vgg7",
}


def network(name, table, **options):
    torch.manual_seed(0)
    made = parts.build(expressions.parse_one(name, option="x"), table, channels=8, **options)
    initialize(made)
    return made.double()


def batches(count=2, size=2, side=SIDE):
    generator = torch.Generator().manual_seed(1)
    shape = (count, size, 3, side, side)
    return list(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "bicubic"])
def test_concatenated_batches_give_the_images_and_gradients_of_each_batch(name):
    made = network(SMALL.get(name, name), GENERATORS)
    joint = Executor(made)
    separate = Executor(copy.deepcopy(made), ExecutionPlan(batch_passes=False))
    assert joint.per_sample
    images = {}
    for executor in (joint, separate):
        images[executor] = executor.forward_many(batches(side=32))
        sum(((i + 1) * image.square()).sum() for i, image in enumerate(images[executor])).backward()
    for ours, theirs in zip(images[joint], images[separate], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    expected = gradients(separate.network)
    assert expected
    for key, gradient in gradients(joint.network).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["patch", "pixel", "multiscale(scales=2, layers=2)"])
def test_a_discriminator_of_single_images_judges_fake_and_real_images_in_one_pass(name):
    made = network(name, DISCRIMINATORS)
    calls = []
    made.register_forward_hook(lambda *_: calls.append(1))
    fake, real = batches()
    fakes, reals = adversarial.fake_and_real_logits(Executor(made), fake, real)
    assert len(calls) == 1
    for ours, theirs in (
        (fakes, adversarial.discriminator_logits(made, fake, real=False)),
        (reals, adversarial.discriminator_logits(made, real, real=True)),
    ):
        for a, b in zip(ours, theirs, strict=True):
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
def test_batch_statistics_randomness_and_power_iterations_are_never_concatenated(name, table):
    assert not is_per_sample(network(name, table))
    assert not Executor(network(name, table)).per_sample


def test_batches_for_a_users_own_network_are_not_concatenated():
    class Own(nn.Module):
        def forward(self, image):
            return image - image.mean()

    first, second = batches()
    outputs = Executor(Own()).forward_many([first, second])
    for image, expected in zip(outputs, (first, second), strict=True):
        torch.testing.assert_close(image, expected - expected.mean())


def test_batches_of_several_sizes_pass_one_by_one():
    made = network("resnet(blocks=1)", GENERATORS)
    large, small = batches()
    small = small[..., :32, :32]
    images = Executor(made).forward_many([large, small])
    assert [image.shape[-1] for image in images] == [SIDE, 32]
    torch.testing.assert_close(images[1], made(small))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside(precision):
    made = network("resnet(blocks=1)", GENERATORS).float()
    seen = []
    made.model[1].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    image = batches()[0].float()
    output = Executor(made, ExecutionPlan(precision=precision))(image)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert output.dtype == torch.float32
    assert (output - made(image)).abs().max() < 0.05
    output.sum().backward()
    assert {p.grad.dtype for p in made.parameters()} == {torch.float32}


def test_channels_last_changes_the_layout_and_not_the_values():
    made = network("resnet(blocks=1)", GENERATORS)
    image = batches()[0]
    expected = made(image)
    executor = configure(made, ExecutionPlan(channels_last=True))
    torch.testing.assert_close(executor(image), expected, rtol=1e-10, atol=1e-10)
    assert made.model[4].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name", ["resnet(blocks=2)", "attention(blocks=2)", "edsr", "rrdb(blocks=1)"]
)
def test_activation_checkpointing_gives_the_same_gradients_and_stores_less(name):
    stored = {}
    for recompute in (False, True):
        made = network(name, GENERATORS)
        executor = configure(made, ExecutionPlan(activation_checkpointing=recompute))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            output = executor(batches(side=32)[0])
        output.square().sum().backward()
        stored[recompute] = sum(sizes), gradients(made)
    assert stored[True][0] < stored[False][0]
    for key, gradient in stored[True][1].items():
        torch.testing.assert_close(gradient, stored[False][1][key], rtol=1e-12, atol=1e-12)


def test_a_constructor_leaves_the_network_as_it_is_and_configure_sets_and_resets_it():
    made = network("resnet(blocks=1)", GENERATORS)
    plan = ExecutionPlan(activation_checkpointing=True, channels_last=True)

    def recomputes():
        return [m.recompute for m in made.modules() if isinstance(m, ResidualBlock)]

    strides = [parameter.stride() for parameter in made.parameters()]
    Executor(made, plan)
    assert recomputes() == [False]
    assert [parameter.stride() for parameter in made.parameters()] == strides
    configure(made, plan)
    assert recomputes() == [True]
    configure(made, EAGER_FP32)
    assert recomputes() == [False]


def test_a_network_is_compiled_once_and_only_when_it_is_called(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    executor = Executor(network("resnet(blocks=1)", GENERATORS), ExecutionPlan(compile="default"))
    assert not compiled
    for _ in range(2):
        executor(batches()[0])
    assert len(compiled) == 1


def test_a_network_that_cannot_be_compiled_runs_in_eager_mode(monkeypatch):
    def broken(function, **_):
        def fail(*args, **kwargs):
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    made = network("resnet(blocks=1)", GENERATORS)
    executor = Executor(made, ExecutionPlan(compile="default"))
    image = batches()[0]
    with pytest.raises(RuntimeError, match="no compiler"):
        executor(image)
    executor.uncompile()
    torch.testing.assert_close(executor(image), made(image))
