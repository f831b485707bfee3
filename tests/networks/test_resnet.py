"""The resnet: classic and CUT's tensors, norms, antialiasing, attention."""

from functools import partial

import pytest
import torch
from support.networks import make, noise
from torch import nn
from torch.nn import functional

from cyclegan.networks.discriminators.patchgan import (
    PatchDiscriminator,
)
from cyclegan.networks.generators.attention import AttentionResnet, SelfAttention
from cyclegan.networks.generators.resnet import ResnetBlock, ResnetGenerator
from cyclegan.networks.layers import (
    NORMS,
    conv_bias,
    initialize,
)

make = partial(make, channels=4)


def resnet_keys(blocks: int) -> set[str]:
    last = 10 + blocks
    convs = ["model.1", "model.4", "model.7"]
    convs += [f"model.{block}.conv_block.{conv}" for block in range(10, last) for conv in (1, 5)]
    convs += [f"model.{last}", f"model.{last + 3}", f"model.{last + 7}"]
    return {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}


# The layers of Contrastive Unpaired Translation for its --nce_layers and --no_antialias.
@pytest.mark.parametrize(
    ("antialias", "layers"), [(True, (0, 4, 8, 12, 16)), (False, (0, 4, 7, 10, 14))]
)
def test_the_encode_layers_are_those_of_cut(antialias: bool, layers: tuple[int, ...]) -> None:
    assert ResnetGenerator(1, antialias=antialias).encode_layers == layers


def test_an_antialiased_resnet_loads_weights_of_cut() -> None:
    network = ResnetGenerator(1, antialias=True)
    convs = ["model.1", "model.4", "model.8", "model.22", "model.26", "model.30"]
    convs += [f"model.{i}.conv_block.{conv}" for i in range(12, 21) for conv in (1, 5)]
    weights = network.state_dict()
    assert set(weights) == {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}
    kernels = {f"model.{i}.filt": torch.ones(1, 1, 3, 3) for i in (7, 11, 21, 25)}
    network.load_state_dict({**weights, **kernels})


@pytest.mark.parametrize(
    ("blocks", "tensors", "parameters"), [(9, 48, 11_378_179), (6, 36, 7_837_699)]
)
def test_the_resnet_has_the_classic_tensors(blocks: int, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        network = ResnetGenerator(blocks=blocks)
    assert set(network.state_dict()) == resnet_keys(blocks)
    assert len(network.state_dict()) == tensors
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("downs", [0, 1, 2, 3])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("upsample", ["deconv", "resize", "pixelshuffle"])
def test_a_resnet_takes_any_multiple(downs: int, upsample: str, antialias: bool) -> None:
    network = ResnetGenerator(2, blocks=1, downs=downs, upsample=upsample, antialias=antialias)
    assert network.size_multiple == 2**downs
    images = noise(1, 3, 5 * network.size_multiple, 4 * network.size_multiple)
    assert network(images).shape == images.shape


@pytest.mark.parametrize(("norm", "bias"), [("instance", True), ("batch", False), ("none", False)])
def test_only_convolutions_before_instance_norm_have_a_bias(norm: str, bias: bool) -> None:
    assert conv_bias(norm) is bias
    resnet = ResnetGenerator(2, blocks=1, norm=norm).state_dict()
    inner = ["model.1", "model.4", "model.7", "model.10.conv_block.1", "model.10.conv_block.5"]
    inner += ["model.11", "model.14"]
    assert [f"{conv}.bias" in resnet for conv in inner] == [bias] * len(inner)
    assert "model.18.bias" in resnet
    patch = PatchDiscriminator(2, norm=norm).state_dict()
    assert [f"model.{i}.bias" in patch for i in (2, 5, 8)] == [bias] * 3
    assert {"model.0.bias", "model.11.bias"} <= set(patch)


def test_batch_norm_adds_five_tensors_for_each_norm() -> None:
    keys = set(ResnetGenerator(2, blocks=1, norm="batch").state_dict())
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for norm in ("model.2", "model.5", "model.8", "model.10.conv_block.2", "model.10.conv_block.6"):
        assert {f"{norm}.{name}" for name in names} <= keys


def test_dropout_moves_the_second_convolution_of_a_block() -> None:
    keys = set(ResnetGenerator(2, blocks=1, dropout=True).state_dict())
    assert "model.10.conv_block.6.weight" in keys
    assert "model.10.conv_block.5.weight" not in keys


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_gives_finite_outputs(norm: str) -> None:
    assert ResnetGenerator(2, blocks=1, norm=norm)(noise(2, 3, 16, 16)).isfinite().all()


def test_an_unknown_norm_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="instance, batch, none"):
        ResnetGenerator(2, norm="group")


def test_bilinear_enlargement_is_zeros_between_pixels_and_a_blur() -> None:
    features = noise(1, 1, 5, 4)
    blur = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    padded = functional.pad(features, (1, 1, 1, 1), mode="replicate")
    wanted = functional.conv_transpose2d(padded, torch.outer(blur, blur)[None, None], stride=2)
    layer = next(m for m in ResnetGenerator(1, antialias=True).model if isinstance(m, nn.Upsample))
    assert torch.allclose(layer(features), wanted[..., 3:-3, 3:-3], atol=1e-6)


@pytest.mark.parametrize("upsample", ["deconv", "resize", "pixelshuffle"])
def test_a_residual_generator_starts_as_the_identity(upsample: str) -> None:
    network = ResnetGenerator(2, blocks=1, upsample=upsample, residual=True)
    initialize(network)
    images = noise(1, 3, 16, 16)
    assert torch.equal(network(images), images)


def test_a_plain_generator_does_not_start_as_the_identity() -> None:
    network = ResnetGenerator(2, blocks=1)
    initialize(network)
    images = noise(1, 3, 16, 16)
    assert not torch.allclose(network(images), images, atol=0.1)


@pytest.mark.parametrize("upsample", ["resize", "pixelshuffle"])
def test_a_generator_starts_without_a_checkerboard_on_a_flat_field(upsample: str) -> None:
    torch.manual_seed(0)
    flat = torch.full((1, 3, 96, 96), 0.3)
    network = ResnetGenerator(4, blocks=1, norm="none", upsample=upsample)
    initialize(network, gain=0.3)
    # Zero padding changes the border; away from it, flat must stay flat.
    output = network(flat)[..., 40:56, 40:56]
    assert output.abs().max() > 1e-3
    assert (output - output.mean(dim=(2, 3), keepdim=True)).abs().max() < 1e-6


@pytest.mark.parametrize("side", [16, 24])
def test_attention_begins_as_the_plain_resnet(side: int) -> None:
    network = make("attention(attentions=2)")
    plain = ResnetGenerator(4)
    plain.model = nn.Sequential(*(m for m in network.model if not isinstance(m, SelfAttention)))
    assert torch.equal(network(noise(1, 3, side, side)), plain(noise(1, 3, side, side)))


def test_a_single_attention_follows_the_middle_block() -> None:
    kinds = [type(layer) for layer in AttentionResnet(2, blocks=9).model]
    blocks = [kind for kind in kinds if kind in (ResnetBlock, SelfAttention)]
    assert blocks == [ResnetBlock] * 5 + [SelfAttention] + [ResnetBlock] * 4


def test_self_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    layer, features = SelfAttention(6, heads=2), noise(1, 6, 3, 2)
    nn.init.uniform_(layer.gain)
    seen = functional.layer_norm(features, (6, 3, 2))
    seen = seen + layer.position(seen)
    q, k, v = (x.reshape(2, 3, 6) for x in layer.qkv(seen).reshape(3, 6, 6).unbind(0))
    heads = [layer.gain[h] * v[h] @ ((q[h].T @ k[h]) / 3**0.5).softmax(dim=1).T for h in range(2)]
    wanted = features + layer.project(torch.cat(heads).reshape(1, 6, 3, 2))
    assert torch.allclose(layer(features), wanted, atol=1e-6)
