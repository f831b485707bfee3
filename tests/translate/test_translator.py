"""Translator: images of any size, and the files from which it is loaded."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import Brighter, levels, make_run, on_cpu, picture, save, small_resnet
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import to_yaml
from cyclegan.networks.generators.bicubic import Bicubic
from cyclegan.networks.generators.edsr import EDSRGenerator
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.layers import initialize
from cyclegan.runs import checkpoints
from cyclegan.translate.translator import Translator

SIZES = [(1, 1), (3, 5), (17, 31), (253, 257), (256, 256)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("residual", [False, True])
def test_the_output_has_the_size_of_the_input(size: tuple[int, int], residual: bool) -> None:
    image = picture(size)
    output = on_cpu(small_resnet(residual=residual))(image)
    assert (output.size, output.mode) == (size, "RGB")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_generator_with_a_scale_enlarges_every_size_by_it(
    size: tuple[int, int], scale: int
) -> None:
    network = EDSRGenerator(2, blocks=0, scale=scale)
    assert on_cpu(network)(picture(size)).size == (size[0] * scale, size[1] * scale)


@pytest.mark.parametrize("size", SIZES)
def test_a_reducing_generator_rounds_sizes_up(size: tuple[int, int]) -> None:
    expected = tuple(math.ceil(side / 3) for side in size)
    assert on_cpu(Bicubic(shrink=3))(picture(size)).size == expected


@pytest.mark.parametrize("size", [(40, 32), (41, 31)])
def test_bicubic_enlargement_equals_pillows(size: tuple[int, int]) -> None:
    # Far from black and white: Pillow clips between its two passes, we after both.
    image = Image.eval(picture(size), lambda level: 100 + level // 8)
    expected = image.resize((2 * size[0], 2 * size[1]), Image.Resampling.BICUBIC)
    difference = np.abs(levels(on_cpu(Bicubic(scale=2))(image)) - levels(expected))
    # At the right and the lower border an odd side is padded before it is enlarged.
    assert difference[: 2 * 28, : 2 * 36].max() <= 1


@pytest.mark.parametrize("downs", [0, 1, 3, 5])
def test_every_depth_takes_every_size(downs: int) -> None:
    assert on_cpu(small_resnet(downs=downs))(picture((9, 1))).size == (9, 1)


def test_an_identity_returns_all_256_levels() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([ramp, ramp[::-1], ramp.T], axis=-1))
    assert (levels(on_cpu(nn.Identity())(image)) == levels(image)).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_fresh_residual_generator_returns_every_image(size: tuple[int, int]) -> None:
    network = ResnetGenerator(2, blocks=1, residual=True)
    initialize(network)
    assert (levels(on_cpu(network)(picture(size))) == levels(picture(size))).all()


@pytest.mark.parametrize(("by", "level"), [(300, 255), (-300, 0)])
def test_values_out_of_range_are_clipped_and_do_not_wrap(by: int, level: int) -> None:
    assert (levels(on_cpu(Brighter(by))(picture())) == level).all()


def test_sides_are_padded_by_reflection_to_a_multiple() -> None:
    class Recorder(nn.Module):
        size_multiple = 8

        def forward(self, image: Tensor) -> Tensor:
            self.image = image
            return image

    network = Recorder()
    on_cpu(network)(picture((37, 33)))
    padded = network.image[0]
    assert padded.shape == (3, 40, 40)
    for beyond in range(7):
        assert torch.equal(padded[:, 33 + beyond, :37], padded[:, 31 - beyond, :37])
    for beyond in range(3):
        assert torch.equal(padded[:, :, 37 + beyond], padded[:, :, 35 - beyond])


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_a_batch_equals_its_images_one_by_one(norm: str) -> None:
    translator = on_cpu(small_resnet(norm=norm, dropout=True))
    images = [picture((21, 18), seed=seed) for seed in range(3)]
    together, alone = translator.batch(images), [translator(image) for image in images]
    assert not (levels(together[0]) == levels(together[1])).all()
    for one, other in zip(together, alone, strict=True):
        # A value close to a rounding boundary may be rounded the other way.
        assert abs(levels(one) - levels(other)).max() <= 1


def test_translating_leaves_the_network_as_it_was() -> None:
    network = small_resnet(norm="batch")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    on_cpu(network)(picture())
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_images_of_every_mode_are_taken(mode: str) -> None:
    image = picture(mode="L").convert("I").convert("I;16") if mode == "I;16" else picture(mode=mode)
    output = on_cpu(nn.Identity())(image)
    assert (output.mode, output.size) == ("RGB", (20, 16))


def test_gray_stays_gray() -> None:
    image = picture(mode="L")
    output = levels(on_cpu(nn.Identity())(image))
    assert (output == levels(image)[..., None]).all()


def test_a_path_is_taken_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    translator = on_cpu(nn.Identity())
    assert (levels(translator(path)) == levels(path)).all()
    assert (levels(translator(str(path))) == levels(path)).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "batch"},
        {"norm": "none"},
        {"dropout": True},
        {"upsample": "resize", "residual": True, "downs": 1},
    ],
    ids=str,
)
def test_a_file_of_weights_alone_translates(options: dict[str, Any], tmp_path: Path) -> None:
    network = small_resnet(**options)
    checkpoints.save_weights(tmp_path, "latest", {"G_AB": network})
    loaded = Translator.load(tmp_path / "latest_net_G_A.pth", device="cpu")
    assert (levels(loaded(picture())) == levels(on_cpu(network)(picture()))).all()


def shareable(folder: Path, about: dict[str, str]) -> tuple[nn.Module, Path]:
    network, path = small_resnet(norm="batch"), folder / "shared.safetensors"
    checkpoints.save_safetensors(path, network.state_dict(), about)
    return network, path


def test_a_safetensors_file_names_its_network(tmp_path: Path) -> None:
    own = {"generator": "resnet(blocks=1, norm=batch)", "ngf": 2}
    network, path = shareable(tmp_path, {"network": "G_BA", "settings": json.dumps(own)})
    loaded = Translator.load(path, device="cpu")
    assert (levels(loaded(picture())) == levels(on_cpu(network)(picture()))).all()


def test_the_network_of_a_foreign_safetensors_file_is_detected(
    tmp_path: Path,
) -> None:
    network, path = shareable(tmp_path, {"format": "pt"})
    loaded = Translator.load(path, device="cpu")
    assert (levels(loaded(picture())) == levels(on_cpu(network)(picture()))).all()


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"network": "G_AB", "settings": "["}, "does not say which generator"),
        ({"network": "G_AB", "settings": "[1]"}, "does not say which generator"),
        ({"network": "D_A", "settings": "{}"}, "does not say which generator"),
        ({"network": "G_AB", "settings": '{"generator": "os.system"}'}, "--trust_imports"),
        ({"network": "G_AB", "settings": '{"ngf": 8}'}, "does not fit this network"),
    ],
)
def test_the_metadata_of_weights_is_not_trusted(
    about: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    _, path = shareable(tmp_path, about)
    with pytest.raises(UserError, match=sentence):
        Translator.load(path, device="cpu")


def test_a_run_is_loaded_in_either_direction_and_at_any_epoch(run: Path) -> None:
    checkpoints.save_weights(run, 7, {"G_AB": Brighter(9)})
    for options, by in (({}, 3), ({"direction": "BtoA"}, -5), ({"epoch": 7}, 9)):
        translated = Translator.load(run, device="cpu", trust_imports=True, **options)(picture())
        assert (levels(translated) - levels(picture()) == by).all()


def test_a_run_of_import_paths_needs_trust(run: Path) -> None:
    with pytest.raises(UserError, match="--trust_imports"):
        Translator.load(run, device="cpu")


def test_weights_beside_their_settings_are_loaded_by_them(run: Path) -> None:
    translator = Translator.load(run / "latest_net_G_B.pth", device="cpu", trust_imports=True)
    assert (levels(translator(picture())) - levels(picture()) == -5).all()


def test_a_run_of_a_registered_network_keeps_its_width(tmp_path: Path) -> None:
    settings = check(TrainSettings, {"name": "x", "generator": "resnet(blocks=1)", "ngf": 3})
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    network = ResnetGenerator(3, blocks=1)
    checkpoints.save_weights(tmp_path, "latest", {"G_BA": network})
    loaded = Translator.load(tmp_path, direction="BtoA", device="cpu")
    assert isinstance(loaded.generator, ResnetGenerator)
    assert loaded.generator.state_dict().keys() == network.state_dict().keys()
