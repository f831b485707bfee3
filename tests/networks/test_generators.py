"""Generators: what every one in the table keeps to, and what each part of them computes."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks import GENERATORS
from cyclegan.networks.generators.attention import AttentionResnet, SelfAttention
from cyclegan.networks.generators.resnet import ResnetBlock, ResnetGenerator
from cyclegan.networks.generators.unet import UnetGenerator
from cyclegan.networks.layers import BlurPool, PixelShuffleConv, initialize
from cyclegan.runs import checkpoints

VARIANTS = [
    *GENERATORS,
    "resnet(antialias=true)",
    "resnet(upsample=pixelshuffle, residual=true, blocks=2)",
    "resnet(norm=none, blocks=0, downs=1)",
    "attention(blocks=3, attentions=2, antialias=true)",
    "unet(layers=3, upsample=resize, norm=none)",
    "unet(layers=1)",
]
ENCODERS = [text for text in VARIANTS if text.startswith(("resnet", "attention", "unet"))]


def make(text: str, **defaults: int) -> nn.Module:
    """A narrow network as the commands make it, with its first weights."""
    torch.manual_seed(0)
    term = expressions.parse_one(text, option="generator")
    network = parts.build(term, GENERATORS, **{"channels": 4, **defaults})
    initialize(network)
    return network


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def fitting(network: nn.Module, *, batch: int = 1) -> Tensor:
    """About the smallest image that the commands let through, higher than wide."""
    multiple = network.size_multiple
    side = -(-getattr(network, "min_size", max(16, 4 * multiple)) // multiple) * multiple
    return noise(batch, 3, side + multiple, side)


@pytest.mark.parametrize("text", VARIANTS)
def test_a_generator_gives_images_of_the_size_it_tells(text: str) -> None:
    for asked in ((1, 1), (2, 1), (3, 1), (1, 2)):
        try:
            network = make(text, scale=asked[0], shrink=asked[1])
        except UserError:
            if asked == (1, 1):
                raise
            continue
        scale, shrink = told = getattr(network, "scale", 1), getattr(network, "shrink", 1)
        assert told in (asked, (1, 1))
        images = fitting(network, batch=2)
        height, width = (side * scale // shrink for side in images.shape[-2:])
        assert network(images).shape == (2, 3, height, width)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("text", VARIANTS)
def test_gradients_reach_the_image_and_every_parameter(text: str, autocast: bool) -> None:
    network = make(text)
    images = fitting(network).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = network(images)
    assert output.isfinite().all()
    output.float().square().mean().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("text", VARIANTS)
def test_a_generator_saved_and_loaded_gives_the_same_output(text: str, tmp_path: Path) -> None:
    network, other = make(text), make(text)
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.01)
    images = fitting(network)
    checkpoints.save_weights(tmp_path, 1, {"G_AB": network})
    path = checkpoints.weights_path(tmp_path, 1, "G_AB")
    checkpoints.fit_weights(other, checkpoints.load_weights(path), source=path)
    assert torch.equal(other(images), network(images))


@pytest.mark.parametrize("text", VARIANTS)
def test_a_look_changes_no_weight_and_a_copy_is_its_own(text: str) -> None:
    network = make(text)
    images = fitting(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    other = copy.deepcopy(network)
    assert torch.equal(network(images), other(images))
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}(channels=0)" for name in GENERATORS),
        *("resnet(residual=no)", "resnet(dropout=0.5)", "resnet(upsample=nearest)"),
        *("resnet(blocks=two)", "resnet(blocks=1.5)", "resnet(blocks=true)", "resnet(blocks=-1)"),
        *("resnet(downs=6)", "resnet(antialias=1)", "resnet(norm=3)", "resnet(norm=[1])"),
        *("attention(heads=0)", "attention(heads=3)", "attention(blocks=0)"),
        *("attention(attentions=a)", "attention(blocks=2, attentions=3)"),
        *(
            "unet(layers=9)",
            "unet(layers=0)",
            "unet(layers=3, dropout=true)",
            "unet(norm=spectral)",
        ),
    ],
)
def test_a_generator_refuses_an_option_that_makes_no_network(text: str) -> None:
    option = text.rpartition(", ")[2].rpartition("(")[2].partition("=")[0]
    with pytest.raises(UserError, match=f"--generator: .*{option}") as error:
        parts.build(expressions.parse_one(text, option="generator"), GENERATORS)
    assert "not supported between" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("edsr(block=2)", "channels, blocks, fold, highpass, reduce, scale, shrink, noise"),
        ("rrdb(body=2)", "channels, blocks, growth, fold, highpass, reduce, scale, shrink, noise"),
        (
            "attention(head=2)",
            "channels, heads, attentions, blocks, downs, norm, upsample, dropout, residual, "
            "antialias",
        ),
        ("srcnn(leak=1)", "spec, color, residual, scale"),
        ("vgg7(shrink=2)", "color, residual, scale"),
    ],
)
def test_an_unknown_option_is_refused_with_the_known_ones_of_the_base_class(
    text: str, known: str
) -> None:
    with pytest.raises(UserError, match=f"has no option .*; it knows {known}$"):
        make(text)


@pytest.mark.parametrize("text", ENCODERS)
def test_encoded_features_are_those_of_a_full_pass(text: str) -> None:
    network = make(text)
    images = fitting(network)
    layers = dict(enumerate(network.model)) if isinstance(network, ResnetGenerator) else {}
    for convolution in network.modules() if isinstance(network, UnetGenerator) else ():
        if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (4, 4):
            layers[len(layers) + 1] = convolution
    seen = {0: images}
    for index, layer in layers.items():
        layer.register_forward_hook(
            lambda *call, index=index: seen.update({index: call[2].clone()})
        )
    network(images)
    wanted = dict(seen)
    assert network.encode_layers[0] == 0
    for index, feature in zip(network.encode_layers, network.encode(images), strict=True):
        assert torch.equal(feature, wanted[index]), index
    last, first = network.encode(images, [max(wanted), 0])
    assert torch.equal(last, wanted[max(wanted)])
    assert torch.equal(first, wanted[0])


def test_encoding_runs_no_further_than_asked() -> None:
    network = make("resnet")
    network.model[5] = nn.Linear(1, 1)
    assert [f.shape[1] for f in network.encode(fitting(network), [4, 0])] == [8, 3]
    assert network.encode(fitting(network), []) == []


@pytest.mark.parametrize("text", ["resnet(blocks=1)", "unet(layers=2)"])
@pytest.mark.parametrize("index", [-1, 100, "a", 1.5])
def test_a_layer_that_is_not_there_is_refused(text: str, index: object) -> None:
    network = make(text)
    with pytest.raises(ValueError, match="layer="):
        network.encode(fitting(network), [index])


# Where Contrastive Unpaired Translation looks, by its options --nce_layers and --no_antialias.
@pytest.mark.parametrize(
    ("antialias", "layers"), [(True, (0, 4, 8, 12, 16)), (False, (0, 4, 7, 10, 14))]
)
def test_features_are_taken_where_cut_takes_them(antialias: bool, layers: tuple[int, ...]) -> None:
    assert ResnetGenerator(1, antialias=antialias).encode_layers == layers


def test_an_antialiased_resnet_loads_weights_of_cut() -> None:
    network = ResnetGenerator(1, antialias=True)
    convs = ["model.1", "model.4", "model.8", "model.22", "model.26", "model.30"]
    convs += [f"model.{i}.conv_block.{conv}" for i in range(12, 21) for conv in (1, 5)]
    weights = network.state_dict()
    assert set(weights) == {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}
    kernels = {f"model.{i}.filt": torch.ones(1, 1, 3, 3) for i in (7, 11, 21, 25)}
    network.load_state_dict({**weights, **kernels})


def test_blur_pool_by_hand() -> None:
    row = torch.tensor([[0.0, 0.0, 4.0, 8.0]])
    # Reflected to 0 0 0 4 8 4, and weighted by 1/4, 1/2, 1/4 round the first and the third.
    assert torch.equal(
        BlurPool()(row.expand(1, 1, 4, 4)), torch.tensor([[0.0, 4.0]]).expand(1, 1, 2, 2)
    )
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 1, 3, 3)
    assert BlurPool()(board).abs().max() == 0
    assert not BlurPool().state_dict()


def test_bilinear_enlargement_is_zeros_between_pixels_and_a_blur() -> None:
    features = noise(1, 1, 5, 4)
    blur = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    padded = functional.pad(features, (1, 1, 1, 1), mode="replicate")
    wanted = functional.conv_transpose2d(padded, torch.outer(blur, blur)[None, None], stride=2)
    layer = next(m for m in ResnetGenerator(1, antialias=True).model if isinstance(m, nn.Upsample))
    assert torch.allclose(layer(features), wanted[..., 3:-3, 3:-3], atol=1e-6)


def test_a_fresh_pixel_shuffle_is_a_convolution_and_nearest_neighbour() -> None:
    torch.manual_seed(0)
    layer = PixelShuffleConv(3, 2, bias=True)
    initialize(layer, init_type="kaiming")
    weight = layer[1].weight
    features = noise(1, 3, 6, 5)
    small = functional.conv2d(functional.pad(features, (1, 1, 1, 1), mode="reflect"), weight[::4])
    assert weight.detach().std() > 0.1
    assert torch.allclose(layer(features), functional.interpolate(small, scale_factor=2), atol=1e-6)


@pytest.mark.parametrize("side", [16, 24])
def test_attention_begins_as_the_plain_resnet(side: int) -> None:
    network = make("attention(attentions=2)")
    plain = ResnetGenerator(4)
    plain.model = nn.Sequential(*(m for m in network.model if not isinstance(m, SelfAttention)))
    assert torch.equal(network(noise(1, 3, side, side)), plain(noise(1, 3, side, side)))


def test_a_single_attention_stands_behind_the_middle_block() -> None:
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


def unet_keys(layers: int) -> set[str]:
    inner = ["model.model.1.model" + ".3.model" * depth for depth in range(layers - 1)]
    convs = ["model.model.0", "model.model.3", *(f"{prefix}.1" for prefix in inner)]
    convs += [f"{prefix}.5" for prefix in inner[:-1]] + [f"{inner[-1]}.3"]
    return {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}


# The parameters are those that the classic implementation prints for unet_256 and unet_128.
@pytest.mark.parametrize(("layers", "millions"), [(8, 54.414), (7, 41.829)])
def test_the_unet_has_the_classic_tensors(layers: int, millions: float) -> None:
    with torch.device("meta"):
        network, batch = UnetGenerator(layers=layers), UnetGenerator(layers=layers, norm="batch")
    assert set(network.state_dict()) == unet_keys(layers)
    count = sum(parameter.numel() for parameter in batch.parameters())
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_a_unet_trains_on_its_smallest_image(layers: int, norm: str) -> None:
    network = make(f"unet(layers={layers}, norm={norm})")
    assert network.min_size == network.size_multiple == 2**layers
    images = noise(2, 3, network.min_size, network.min_size)
    assert network(images).isfinite().all()


def test_dropout_of_a_unet_stands_where_the_classic_one_has_it() -> None:
    network = UnetGenerator(1, layers=8, dropout=True)
    dropped = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout)]
    assert set(dropped) == {
        "model.model.1.model" + ".3.model" * depth + ".7" for depth in (3, 4, 5)
    }


def test_a_unet_of_two_halvings_is_its_formula() -> None:
    network, image = make("unet(layers=2)"), noise(1, 3, 8, 12)
    weights = network.state_dict()

    def layer(name: str, features: Tensor) -> Tensor:
        weight, bias = weights[f"model.model.{name}.weight"], weights[f"model.model.{name}.bias"]
        # The two convolutions on the way up are transposed.
        apply = functional.conv_transpose2d if name.endswith("3") else functional.conv2d
        return apply(features, weight, bias, stride=2, padding=1)

    outer = layer("0", image)
    inner = layer("1.model.1", functional.leaky_relu(outer, 0.2))
    within = functional.instance_norm(layer("1.model.3", inner.relu()))
    wanted = layer("3", torch.cat([outer, within], dim=1).relu()).tanh()
    assert torch.allclose(network(image), wanted, atol=1e-6)
