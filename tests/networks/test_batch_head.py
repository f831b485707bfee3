"""The batch head: its statistics, and when and what its queues store."""

import io
from typing import Any

import pytest
import torch
from support.networks import noise
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.networks.discriminators.batch_head import BatchHeadDiscriminator
from cyclegan.networks.layers import initialize


def make(**options: Any) -> BatchHeadDiscriminator:
    torch.manual_seed(0)
    network = BatchHeadDiscriminator(2, layers=1, **options)
    initialize(network, gain=0.2)
    return network


def queues(network: BatchHeadDiscriminator) -> tuple[Tensor, Tensor]:
    return network.real_queue.features, network.fake_queue.features


def features_of(network: BatchHeadDiscriminator, images: Tensor) -> Tensor:
    """In evaluation mode, so that spectral norm makes no power iteration."""
    training = network.training
    features = network.eval().body(images).detach()
    network.train(training)
    return features


def learn(network: BatchHeadDiscriminator, steps: range) -> None:
    """Trains by gradient descent without momentum, which has no state."""
    for step in steps:
        real, fake = noise(1, 3, 12, 12, seed=step), noise(1, 3, 12, 12, seed=100 + step)
        loss = (network(real, real=True) - 1).square().mean() + network(fake).square().mean()
        parameters = list(network.parameters())
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= 0.01 * slope


def test_the_head_normalizes_by_the_statistics_of_batch_and_queue() -> None:
    network = make()
    network(noise(2, 3, 12, 12, seed=2))
    nn.init.normal_(network.norm.bias)
    network.eval()
    images = noise(1, 3, 12, 12, seed=3)
    features = network.body(images)
    seen = torch.cat([features, network.fake_queue.features])
    mean = seen.mean(dim=(0, 2, 3), keepdim=True)
    variance = (seen - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    normed = (features - mean) / (variance + 1e-5).sqrt()
    normed = normed * network.norm.weight.view(1, -1, 1, 1) + network.norm.bias.view(1, -1, 1, 1)
    first, second = network.head[0], network.head[2]
    expected = second(functional.leaky_relu(first(normed), 0.2))
    assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_queue_changes_the_logits_of_a_single_image(training: bool) -> None:
    network = make(norm="none")
    image = noise(1, 3, 12, 12).requires_grad_()
    network(0.3 * noise(1, 3, 12, 12, seed=2), real=True)
    network.train(training)
    with_queue, without = network(image, real=True), network(image)
    assert (with_queue - without).abs().max() > 0.01 * without.abs().max()


@pytest.mark.parametrize("real", [True, False])
def test_the_discriminators_step_stores_each_kind_in_its_own_queue(real: bool) -> None:
    network = make(norm="none")
    images = noise(2, 3, 12, 12)
    network(images, real=real)
    assert [len(queue) for queue in queues(network)] == ([2, 0] if real else [0, 2])
    own = queues(network)[0 if real else 1]
    assert torch.equal(own, features_of(network, images))
    assert not own.requires_grad


@pytest.mark.parametrize("case", ["generators", "penalty", "partly frozen", "eval", "no gradient"])
def test_other_passes_store_nothing(case: str) -> None:
    network = make()
    network(noise(1, 3, 12, 12), real=True)
    before = [queue.clone() for queue in queues(network)]
    images = noise(2, 3, 12, 12, seed=2).requires_grad_(case == "penalty")
    network.requires_grad_(case != "generators")
    network.head.requires_grad_(case not in ("generators", "partly frozen"))
    network.train(case != "eval")
    with torch.set_grad_enabled(case != "no gradient"):
        network(images, real=True)
        network(images, real=False)
    assert all(map(torch.equal, queues(network), before))


def test_the_queue_keeps_the_last_images_for_any_batch_sizes() -> None:
    network = make(norm="none", queue_size=3)
    images = noise(9, 3, 12, 12)
    for first, last, kept in [(0, 1, 1), (1, 3, 3), (3, 4, 3), (4, 9, 3)]:
        network(images[first:last])
        expected = features_of(network, images[last - kept : last])
        assert torch.allclose(network.fake_queue.features, expected, atol=1e-6)


def test_a_queue_of_size_0_uses_the_batch_alone() -> None:
    network = make(norm="none", queue_size=0)
    network(noise(2, 3, 12, 12))
    assert network.fake_queue.features.numel() == 0
    image = noise(1, 3, 12, 12, seed=2)
    assert torch.equal(network(image), network(image))


def test_images_of_another_size_start_a_new_queue() -> None:
    network = make(norm="none")
    network(noise(3, 3, 12, 12))
    other = noise(1, 3, 10, 14, seed=2)
    fresh = make(norm="none")
    assert torch.equal(network(other), fresh(other))
    assert torch.equal(network.fake_queue.features, fresh.fake_queue.features)
    network(noise(2, 3, 12, 12))
    assert len(network.fake_queue.features) == 2


def test_images_of_another_size_keep_the_queue_in_evaluation() -> None:
    network = make()
    network(noise(3, 3, 12, 12))
    network.eval()(noise(1, 3, 10, 14))
    assert network.fake_queue.features.shape == (3, 4, 5, 5)


def test_two_passes_before_one_backward_give_the_gradient_of_their_sum() -> None:
    images = [noise(2, 3, 12, 12, seed=seed) for seed in (1, 2)]
    together, apart = make(norm="none"), make(norm="none")
    (together(images[0]).square().mean() + together(images[1]).square().mean()).backward()
    for batch in images:
        apart(batch).square().mean().backward()
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_a_pass_leaves_the_graph_of_an_earlier_penalty_intact() -> None:
    network = make()
    network(noise(2, 3, 12, 12))
    images = noise(1, 3, 12, 12, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    loss = network(noise(1, 3, 12, 12, seed=3)).square().mean()
    (loss + gradient.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_training_resumes_bit_for_bit_from_a_file(steps: int) -> None:
    network = make()
    learn(network, range(steps))
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = BatchHeadDiscriminator(2, layers=1)
    # The state is loaded into a network that has been used.
    other(noise(3, 3, 16, 12), real=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    for one in (network, other):
        learn(one, range(steps, steps + 3))
    for key, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_a_saved_queue_holds_its_images_only() -> None:
    network = make(queue_size=2)
    network(noise(8, 3, 12, 12))
    queue = network.state_dict()["fake_queue.features"]
    assert queue.untyped_storage().nbytes() == 4 * queue.numel() == 4 * 2 * 4 * 5 * 5


@pytest.mark.parametrize("other", [{"queue_size": 1}, {"queue_size": 0}])
def test_a_longer_queue_does_not_fit(other: dict[str, int]) -> None:
    network = make()
    network(noise(2, 3, 12, 12))
    with pytest.raises(RuntimeError, match=r"fake_queue\.features"):
        make(**other).load_state_dict(network.state_dict())


def test_a_queue_of_another_width_does_not_fit() -> None:
    network = make()
    network(noise(2, 3, 12, 12))
    with pytest.raises(RuntimeError, match="size mismatch"):
        BatchHeadDiscriminator(3, layers=1).load_state_dict(network.state_dict())


def test_under_autocast_the_queue_stays_in_float32() -> None:
    network = make()
    with torch.autocast("cpu", torch.bfloat16):
        for seed in (1, 2):
            network(noise(1, 3, 12, 12, seed=seed))
    assert network.fake_queue.features.dtype == torch.float32
    assert len(network.fake_queue.features) == 2
