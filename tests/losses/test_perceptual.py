"""Perceptual losses on weights that each test writes itself: nothing is fetched."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchmetrics
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import SqueezeNet1_1_Weights, VGG16_Weights, squeezenet1_1

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.losses import IMAGE_LOSSES
from cyclegan.losses.perceptual import layer_indices

# The shapes of torchvision's first convolutions by index; at 4 there is a pooling layer.
SHALLOW = {0: (64, 3), 2: (64, 64), 5: (128, 64)}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def part(expression: str) -> Any:
    return parts.build(expressions.parse_one(expression, option="cycle"), IMAGE_LOSSES)


def images(seed: int, *, side: int = 12, beyond: float = 1.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(2, 3, side, side, generator=random) * 2 - 1) * beyond


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache on a machine without a network; gives the folder that files belong in."""

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def shallow() -> dict[str, Tensor]:
    """Random weights of the first convolutions, under a whole network's names."""
    random = torch.Generator().manual_seed(3)
    state = {}
    for index, (out, into) in SHALLOW.items():
        scale = (9 * into / 2) ** -0.5
        state[f"features.{index}.weight"] = scale * torch.randn(out, into, 3, 3, generator=random)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(out, generator=random)
    return state


@pytest.fixture
def weights(shallow: dict[str, Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "vgg.pth"
    torch.save(shallow, path)
    return path


def features(image: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layers up to conv2_1 in a straight line."""

    def convolve(index: int, values: Tensor) -> Tensor:
        weight, bias = (state[f"features.{index}.{name}"] for name in ("weight", "bias"))
        return functional.conv2d(values, weight, bias, padding=1)

    seen = {"conv1_1": convolve(0, ((image + 1) / 2 - MEAN) / STD)}
    seen["relu1_1"] = seen["conv1_1"].clamp(min=0)
    seen["conv1_2"] = convolve(2, seen["relu1_1"])
    seen["relu1_2"] = seen["conv1_2"].clamp(min=0)
    seen["conv2_1"] = convolve(5, functional.max_pool2d(seen["relu1_2"], 2))
    return seen


@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
@pytest.mark.parametrize("layer", ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "conv2_1"])
def test_vgg_agrees_with_a_straight_line(
    layer: str, network: str, weights: Path, shallow: dict[str, Tensor]
) -> None:
    loss = part(f"vgg(layers={layer}, network={network}, weights='{weights}')")
    seen, goal = (features(images(seed), shallow)[layer] for seed in (0, 1))
    assert torch.allclose(loss(images(0), images(1)), (seen - goal).abs().mean(), rtol=1e-5)


def test_vgg_weighs_its_layers_in_the_order_they_are_named(
    weights: Path, shallow: dict[str, Tensor]
) -> None:
    loss = part(
        f"vgg(layers='conv2_1, conv1_1', layer_weights=(3, 0.5), loss=l2, weights='{weights}')"
    )
    seen, goal = features(images(0), shallow), features(images(1), shallow)
    deep, first = ((seen[name] - goal[name]).square().mean() for name in ("conv2_1", "conv1_1"))
    assert torch.allclose(loss(images(0), images(1)), 3 * deep + 0.5 * first, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [("'relu1_1,relu1_2'", "'2,1'"), ("('relu1_1', 'relu1_2')", "[2.0, 1]")],
)
def test_vgg_takes_lists_in_either_spelling(layers: str, numbers: str, weights: Path) -> None:
    loss = part(f"vgg(layers={layers}, layer_weights={numbers}, weights='{weights}')")
    assert list(loss.layer_weights.items()) == [("relu1_1", 2.0), ("relu1_2", 1.0)]


def test_vgg_takes_a_file_of_features_alone(
    weights: Path, shallow: dict[str, Tensor], tmp_path: Path
) -> None:
    bare = tmp_path / "features.pth"
    torch.save({key.removeprefix("features."): value for key, value in shallow.items()}, bare)
    whole, alone = (part(f"vgg(layers=relu1_2, weights='{path}')") for path in (weights, bare))
    assert whole(images(0), images(1)) == alone(images(0), images(1))


def test_vgg_finds_torchvisions_file_in_the_hub_cache(hub: Path, weights: Path) -> None:
    weights.rename(hub / Path(VGG16_Weights.DEFAULT.url).name)
    assert part("vgg(layers=conv2_1)")(images(0), images(0)) == 0


# Indices in torchvision's `features` of some layers, and the number of convolutions.
@pytest.mark.parametrize(
    ("network", "known", "count"),
    [
        ("vgg16", {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22, "relu5_3": 29}, 13),
        ("vgg19", {"relu1_1": 1, "relu2_1": 6, "relu3_1": 11, "relu4_1": 20, "conv5_4": 34}, 16),
    ],
)
def test_vgg_names_the_layers_as_the_papers_do(network: str, known: dict[str, int], count) -> None:
    with torch.device("meta"):
        features = getattr(torchvision.models, network)(weights=None).features
    indices = layer_indices(features)
    assert known.items() <= indices.items()
    assert len(indices) == 2 * count
    for name, index in indices.items():
        assert isinstance(features[index], nn.Conv2d if name.startswith("conv") else nn.ReLU)


def test_vgg_sends_gradients_to_the_input_alone(weights: Path) -> None:
    loss = part(f"vgg(layers=relu1_2, weights='{weights}')")
    image, target = images(0).requires_grad_(), images(1).requires_grad_()
    loss(image, target).backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert target.grad is None
    assert all(not parameter.requires_grad for parameter in loss.parameters())


def test_vgg_compares_in_float32_under_autocast(weights: Path) -> None:
    loss = part(f"vgg(layers='relu1_1,conv2_1', weights='{weights}')")
    exact = loss(images(0), images(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(images(0).bfloat16(), images(1))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(exact), rel=0.02)


def test_vgg_says_how_large_images_must_be(weights: Path) -> None:
    loss = part(f"vgg(layers=conv2_1, weights='{weights}')")
    with pytest.raises(ValueError, match="2 px or more, not 1x1"):
        loss(images(0, side=1), images(1, side=1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("layers=relu9_1", "vgg16 has no relu9_1; known: conv1_1, relu1_1, .*relu5_3"),
        ("layers=''", "has no ; known"),
        ("layers=(1, 2)", "has no 1"),
        ("layers='relu1_1,relu1_1'", "twice"),
        ("network=vgg11", "network=vgg11 is unknown; known: vgg16, vgg19"),
        ("loss=3", "loss=3 is unknown; known: l1, l2"),
        ("layers=relu1_1, layer_weights=(1, 2)", "one a layer: 1 in all"),
        ("layers=relu1_1, layer_weights=true", "layer_weights=True"),
        ("layers=relu1_1, layer_weights=heavy", "layer_weights=heavy"),
        ("layers=relu1_1, layer_weights=0", "layer_weights=0"),
        ("layers=relu1_1, layer_weights='1e999'", "layer_weights=1e999"),
        ("layers=relu1_1, layer_weights=[None]", "layer_weights="),
        ("weights=5", "weights=5 must be imagenet or the path"),
    ],
)
def test_vgg_refuses_options_it_cannot_honour(options: str, words: str) -> None:
    with pytest.raises(UserError, match=f"--cycle: vgg cannot be made: .*{words}"):
        part(f"vgg({options})")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: .*No such file"),
        (b"no weights at all", "cannot be read: it holds more than tensors and plain data"),
        ([torch.zeros(1)], "holds no state dict"),
        ({"0.weight": torch.zeros(64, 3, 5, 5)}, "no 0.weight of shape"),
        ({"classifier.0.weight": torch.zeros(1)}, "no 0.weight of shape"),
    ],
)
def test_vgg_says_what_is_wrong_with_a_file(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=words) as error:
        part(f"vgg(weights='{path}')")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("expression", "file"),
    [
        ("vgg", "vgg16-"),
        ("vgg(network=vgg19)", "vgg19-"),
        ("lpips", "alexnet-"),
        ("lpips(net=squeeze)", "squeezenet1_1-"),
    ],
)
def test_without_a_network_one_sentence_says_what_to_put_where(
    expression: str, file: str, hub: Path
) -> None:
    with pytest.raises(UserError, match=f"put https://.*/{file}.* there") as error:
        part(expression)
    assert str(hub) in str(error.value)
    assert "no network" in str(error.value)
    assert ("weights=FILE" in str(error.value)) == expression.startswith("vgg")
    assert "\n" not in str(error.value)


@pytest.fixture
def squeezenet(hub: Path) -> nn.Sequential:
    """SqueezeNet's features with random weights, which are in the hub cache as well."""
    torch.manual_seed(5)
    network = squeezenet1_1(weights=None).eval()
    torch.save(network.state_dict(), hub / Path(SqueezeNet1_1_Weights.DEFAULT.url).name)
    found: nn.Sequential = network.features
    return found


def lpips_by_hand(input: Tensor, target: Tensor, network: nn.Sequential) -> Tensor:
    """Equation 1 of the paper: unit-length features, squared differences, learned weights."""
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    learned = torch.load(folder / "squeeze.pth", map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    pair = (torch.cat([input, target]) - shift) / scale
    distance = torch.zeros(len(input))
    taps = (1, 4, 7, 9, 10, 11, 12)
    for index, module in enumerate(network):
        pair = module(pair)
        if index in taps:
            weight = learned[f"lin{taps.index(index)}.model.1.weight"]
            units = pair / (pair.square().sum(1, keepdim=True) + 1e-8).sqrt()
            ours, theirs = units.chunk(2)
            distance += functional.conv2d((ours - theirs).square(), weight).mean((1, 2, 3))
    return distance.mean()


@pytest.mark.parametrize("beyond", [1.0, 1.5], ids=["inside the range", "beyond the range"])
def test_lpips_agrees_with_its_equation(beyond: float, squeezenet: nn.Sequential) -> None:
    input, target = images(0, side=40, beyond=beyond), images(1, side=40)
    value = part("lpips(net=squeeze)")(input, target)
    with torch.no_grad():
        expected = lpips_by_hand(input, target, squeezenet)
    assert value.shape == ()
    assert torch.allclose(value, expected, rtol=1e-4)


def test_lpips_leads_values_beyond_the_range_back(squeezenet: nn.Sequential) -> None:
    loss = part("lpips(net=squeeze)")
    image = images(0, side=24, beyond=3.0).requires_grad_()
    (slope,) = torch.autograd.grad(loss(image, images(1, side=24)), image)
    assert slope.isfinite().all()
    assert slope[image.abs() > 1].abs().sum() > 0


def test_lpips_gathers_nothing_and_never_leaves_evaluation_mode(squeezenet: nn.Sequential) -> None:
    loss = part("lpips(net=squeeze)").train()
    values = [float(loss(images(0, side=24), images(1, side=24))) for _ in range(2)]
    # Dropout would change the second value.
    assert values[0] == values[1]
    assert all(not parameter.requires_grad for parameter in loss.parameters())


def test_lpips_is_computed_in_float32_under_autocast(squeezenet: nn.Sequential) -> None:
    loss, image, target = part("lpips(net=squeeze)"), images(0, side=24), images(1, side=24)
    exact = loss(image.bfloat16().float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(image.bfloat16(), target)
    assert value.dtype == torch.float32
    assert torch.allclose(value, exact, rtol=1e-5)


def test_lpips_says_how_large_images_must_be(squeezenet: nn.Sequential) -> None:
    loss = part("lpips(net=squeeze)")
    assert loss(images(0, side=17), images(1, side=17)).isfinite()
    with pytest.raises(ValueError, match="17 px or more, not 16x16"):
        loss(images(0, side=16), images(1, side=16))


@pytest.mark.parametrize("net", ["resnet", "1"])
def test_lpips_refuses_a_network_it_does_not_know(net: str) -> None:
    with pytest.raises(UserError, match="known: alex, vgg, squeeze"):
        part(f"lpips(net={net})")
