"""Update ratios and histograms of layers."""

import math

import pytest
import torch
from torch import nn

from cyclegan.training.statistics.weight_statistics import (
    BINS,
    NUM_SAMPLED,
    histograms,
    sample_weights,
    update_ratios,
)


def test_a_ratio_is_the_length_of_the_step_over_that_of_the_weights():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3, affine=True))
    before = sample_weights({"G_AB": network})
    length = float(network[0].weight.detach().norm())
    with torch.no_grad():
        network[0].weight.add_(0.25)
        network[0].bias.add_(100)
        network[1].weight.add_(100)
    found = update_ratios(before, sample_weights({"G_AB": network}))
    assert found == {"ratio_G_AB": pytest.approx(0.25 * math.sqrt(54) / length)}


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_large_weight_is_sampled(memory):
    torch.manual_seed(0)
    network = nn.Conv2d(64, 64, 3).to(memory_format=memory)
    before = sample_weights({"D_A": network})
    assert NUM_SAMPLED <= before["D_A"].numel() < 2 * NUM_SAMPLED
    with torch.no_grad():
        network.weight.mul_(1.001)
    assert update_ratios(before, sample_weights({"D_A": network}))["ratio_D_A"] == pytest.approx(
        1e-3, rel=1e-3
    )


def test_a_network_without_weights_has_no_ratio():
    assert sample_weights({"G_AB": nn.Identity()}) == {}
    network = nn.Linear(2, 2)
    nn.init.zeros_(network.weight)
    assert update_ratios(sample_weights({"G_AB": network}), sample_weights({"G_AB": network})) == {}


def test_histograms_count_weights_gradients_and_what_comes_out():
    network = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]]))
    image = torch.ones(1, 1, 3, 3)
    network(image).sum().backward()
    found = histograms({"G_AB": network}, {"G_AB": image}).by_name
    assert set(found) == {f"{kind}/G_AB/0" for kind in ("weights", "gradients", "activations")}
    weights = found["weights/G_AB/0"]
    assert (weights.low, weights.high, len(weights.counts)) == (0.0, 4.0, BINS)
    assert [i for i, count in enumerate(weights.counts) if count] == [0, 16, 32, 63]
    # Each weight meets four ones, and each output is the sum of the weights.
    assert (found["gradients/G_AB/0"].low, found["gradients/G_AB/0"].high) == (4.0, 4.0)
    assert sum(found["activations/G_AB/0"].counts) == 4
    assert found["activations/G_AB/0"].low == 7.0


def test_values_that_are_not_finite_are_left_out():
    network = nn.Sequential(nn.Linear(3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, math.nan, math.inf]]))
    weights = histograms({"D_A": network}).by_name["weights/D_A/0"]
    assert sum(weights.counts) == 1


def test_no_hooks_are_left():
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    histograms({"G_AB": network}, {"G_AB": torch.ones(1, 1, 2, 2)})
    assert not network[0]._forward_hooks
