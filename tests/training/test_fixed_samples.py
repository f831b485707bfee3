"""What a run's fixed images say of it, beside numbers worked out by hand."""

import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import Brighter, on_cpu, picture
from torch import Tensor, nn

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.networks.discriminators.batch_head import BatchHeadDiscriminator
from cyclegan.networks.discriminators.patchgan import MultiscaleDiscriminator, PatchDiscriminator
from cyclegan.networks.generators.edsr import EDSRGenerator
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.training.build.build_run import RunBuilder
from cyclegan.training.state import random_states
from cyclegan.training.statistics.fixed_samples import (
    FixedSamples,
    crops,
    measure,
    measure_scores,
    rank_auc,
)
from cyclegan.training.statistics.preview_grid import PreviewRow

CPU = torch.device("cpu")
OF_PICTURES = {"change", "correlation", "contrast", "colour", "diversity", "error"}
OF_JUDGES = {"pairs", "score_real", "score_fake"}


class Brightness(nn.Module):
    """Calls real what is bright: each 8 x 8 pixels' mean level of 255."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d((image.mean(1, keepdim=True) + 1) * 127.5, 8)


class Halves(nn.Module):
    """Two maps of other sizes: one right, one wrong in all."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return [Brightness()(image), -Brightness()(image).mean(dim=(2, 3), keepdim=True)]


def probe(root, *, files=(), **options) -> FixedSamples:
    values = {"dataroot": root, "name": "probed", "preprocess": "crop", "crop_size": 16, **options}
    settings = check(TrainSettings, values)
    ways = tuple(ImageTransform(**settings.transform_options(domain)) for domain in "AB")
    return RunBuilder(settings).fixed_samples((list(files), list(files)), ways)


def gray(*values: float, size=(16, 16)) -> list[Image.Image]:
    return [Image.new("RGB", size, (value,) * 3) for value in values]


def striped(dark: int, light: int, *, side: int = 16) -> Image.Image:
    """The upper half dark, the lower half light."""
    levels = np.full((side, side, 3), dark, dtype=np.uint8)
    levels[side // 2 :] = light
    return Image.fromarray(levels)


def rows(inputs, fakes) -> list[PreviewRow]:
    return [PreviewRow("image", real, fake, real) for real, fake in zip(inputs, fakes, strict=True)]


def test_all_that_is_measured_has_the_name_that_the_curves_know(tmp_path, make_images):
    files = make_images(tmp_path / "trainA", 4)
    G = on_cpu(Brighter(3))
    _, values = probe(tmp_path, files=files).evaluate(G, G, {"D_A": Halves(), "D_B": Halves()})
    wanted = {f"{name}_{domain}" for name in OF_PICTURES | OF_JUDGES for domain in "AB"}
    assert values.keys() == wanted


def test_without_discriminators_nothing_is_said_of_them(tmp_path, make_images):
    files = make_images(tmp_path / "trainA", 4)
    G = on_cpu(Brighter(3))
    seen = probe(tmp_path, files=files)
    assert seen.evaluate(G, G)[1].keys() == {f"{n}_{d}" for n in OF_PICTURES for d in "AB"}
    _, values = seen.evaluate(G, G, {"D_B": Halves()})
    assert {name for name in values if name.startswith(("pairs", "score"))} == {
        "pairs_B",
        "score_real_B",
        "score_fake_B",
    }


def test_each_number_is_of_the_domain_in_its_name(tmp_path):
    """G_AB adds 8 levels and G_BA takes 3; all images of A are of level 100, all of B of 150."""
    for domain, level in (("A", 100), ("B", 150)):
        (tmp_path / f"test{domain}").mkdir()
        for index, image in enumerate(gray(level, level)):
            image.save(tmp_path / f"test{domain}" / f"{index}.png")
    judges = {"D_A": Brightness(), "D_B": Brightness()}
    _, values = probe(tmp_path).evaluate(on_cpu(Brighter(8)), on_cpu(Brighter(-3)), judges)
    assert values == pytest.approx(
        {
            **{"change_A": 3, "change_B": 8, "error_A": 5, "error_B": 5},
            # From 147 to 100, and from 108 to 150, in three channels.
            **{"colour_A": 47 * 3**0.5, "colour_B": 42 * 3**0.5},
            **{"pairs_A": 0, "score_real_A": 100, "score_fake_A": 147},
            **{"pairs_B": 1, "score_real_B": 150, "score_fake_B": 108},
        },
        rel=1e-5,
    )


def test_a_negative_correlates_with_its_input_by_minus_one():
    made = measure(rows([striped(50, 150)], [striped(150, 50)]), [])
    assert made == pytest.approx({"correlation": -1, "change": 100})


def test_a_correlation_of_flat_images_is_left_out_of_the_mean():
    inputs, fakes = [striped(50, 150), *gray(90)], [striped(60, 80), *gray(80)]
    assert measure(rows(inputs, fakes), [])["correlation"] == pytest.approx(1)
    assert "correlation" not in measure(rows(gray(90), gray(80)), [])


def test_contrast_is_the_mean_deviation_beside_that_of_real_images():
    """Deviations 50 and 20 of the fakes, 10 of the real image."""
    fakes = [striped(50, 150), striped(100, 140)]
    made = measure(rows(fakes, fakes), [striped(90, 110)])
    assert made["contrast"] == pytest.approx(35 / 10)
    assert "contrast" not in measure(rows(fakes, fakes), gray(90))


def test_a_colour_shift_is_the_distance_of_the_mean_colours():
    fakes = [Image.new("RGB", (8, 8), (13, 10, 14)), Image.new("RGB", (9, 7), (13, 10, 14))]
    made = measure(rows(fakes, fakes), [Image.new("RGB", (4, 4), (10, 10, 10))])
    assert made["colour"] == pytest.approx(5)


def test_diversity_is_the_mean_distance_between_fakes_over_that_between_inputs():
    """Distances 30, 60, 30 of the inputs; 6, 12, 6 of the fakes."""
    inputs, fakes = gray(60, 90, 120), gray(100, 106, 112)
    assert measure(rows(inputs, fakes), [])["diversity"] == pytest.approx(0.2)
    assert measure(rows(inputs, gray(7, 7, 7)), [])["diversity"] == 0
    assert "diversity" not in measure(rows(inputs[:1], fakes[:1]), [])
    assert "diversity" not in measure(rows(gray(7, 7), fakes[:2]), [])


def test_images_of_other_sizes_are_compared_at_the_smaller():
    """And where sizes differ, nobody speaks of a change: what was enlarged is no copy."""
    small, large = striped(50, 150), striped(60, 160, side=32)
    for real, fake in ((small, large), (large, small)):
        made = measure(rows([real], [fake]), [])
        # But for the edge, which bicubic interpolation overshoots.
        assert made == pytest.approx({"correlation": 1}, abs=0.02)


def test_pairs_in_order_are_what_counting_each_pair_gives():
    draw = np.random.default_rng(0)
    for _ in range(20):
        reals, fakes = (draw.integers(0, 6, draw.integers(1, 30)).astype(float) for _ in "rf")
        counted = [(r > f) + 0.5 * (r == f) for r in reals for f in fakes]
        assert rank_auc(reals, fakes) == pytest.approx(np.mean(counted))


@pytest.mark.timeout(20)
def test_a_quarter_of_a_million_outputs_make_no_quarter_of_a_million_squared_pairs():
    count = 16 * 128 * 128
    values = np.arange(count, dtype=np.float64)
    assert rank_auc(values + 0.5, values) == pytest.approx((count + 1) / (2 * count))


def test_of_several_maps_the_mean_counts():
    made = measure_scores(Halves(), {True: gray(90, 90), False: gray(60)}, side=16, device=CPU)
    assert made == pytest.approx({"pairs": 0.5, "score_real": 0, "score_fake": 0})


@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((20, 12), [(2, 0, 18, 12)]),
        ((31, 31), [(7, 7, 23, 23)]),
        ((40, 30), [(2, 7, 18, 23), (22, 7, 38, 23)]),
        (
            (36, 34),
            [(1, 0, 17, 16), (1, 17, 17, 33), (19, 0, 35, 16), (19, 17, 35, 33)],
        ),
    ],
)
def test_of_a_large_image_a_discriminator_sees_the_middles_of_its_parts(size, boxes):
    image = picture(size)
    assert [crop.tobytes() for crop in crops(image, 16)] == [
        image.crop(box).tobytes() for box in boxes
    ]


def test_a_discriminator_sees_images_in_the_size_of_the_crops():
    sizes = []

    class Sees(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            sizes.append(tuple(image.shape))
            return image.mean(dim=(1, 2, 3), keepdim=True)

    framed = Image.new("RGB", (30, 26), (200, 200, 200))
    framed.paste((100, 100, 100), (7, 5, 23, 21))
    made = measure_scores(Sees(), {True: [framed], False: gray(100)}, side=16, device=CPU)
    assert sizes == [(1, 3, 16, 16)] * 2
    assert made["pairs"] == 0.5


@pytest.mark.parametrize(
    "D",
    [
        PatchDiscriminator(4, layers=3),
        PatchDiscriminator(4, layers=3, norm="spectral"),
        MultiscaleDiscriminator(4, scales=2, layers=2),
    ],
    ids=lambda D: type(D).__name__,
)
def test_images_too_small_for_a_discriminator_leave_its_numbers_out(D):
    small = {True: gray(90, size=(9, 9)), False: gray(60, size=(9, 9))}
    assert measure_scores(D, small, side=64, device=CPU) == {}
    mixed = {real: [*images, *gray(90, size=(48, 40))] for real, images in small.items()}
    # Each pass brings a fresh spectral norm nearer to its weights.
    assert measure_scores(D, mixed, side=64, device=CPU)["pairs"] == pytest.approx(0.5, abs=0.1)


def test_outputs_that_are_no_numbers_are_left_out():
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.mean(dim=(1, 2, 3), keepdim=True) * float("nan")

    shown = {True: gray(90), False: gray(60)}
    assert measure_scores(Broken(), shown, side=16, device=CPU) == {}


def test_a_discriminator_whose_spectral_norm_is_fresh_gives_numbers_of_usual_size():
    torch.manual_seed(0)
    D = PatchDiscriminator(8, layers=1, norm="spectral")
    for module in D.modules():
        # As the initialization does, which comes after the norm's first estimate.
        if hasattr(module, "parametrizations"):
            nn.init.normal_(module.parametrizations.weight.original, 0, 0.02)
    made = measure_scores(D, {True: gray(90), False: gray(60)}, side=32, device=CPU)
    assert abs(made["score_real"]) < 100


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "D",
    [
        PatchDiscriminator(4, layers=1, norm="batch"),
        PatchDiscriminator(4, layers=1, norm="spectral"),
        BatchHeadDiscriminator(4, layers=1),
        nn.Sequential(nn.Dropout(0.5), PatchDiscriminator(4, layers=1)),
    ],
    ids=lambda D: type(D).__name__,
)
def test_a_look_changes_nothing_of_the_run(tmp_path, make_images, D, training):
    generators = [
        EDSRGenerator(4, blocks=1, noise=1),
        ResnetGenerator(2, blocks=1, norm="batch", dropout=True),
    ]
    # A part that the user holds in evaluation stays so.
    generators[1].model[1].eval()
    networks = nn.ModuleList([*generators, D.train(training)])
    D.requires_grad_(False)
    before = copy.deepcopy(networks.state_dict())
    flags = [(module.training) for module in networks.modules()]
    learns = [parameter.requires_grad for parameter in networks.parameters()]
    buffers = [id(buffer) for buffer in networks.buffers()]
    drawn = str(random_states(CPU)), random.getstate()
    seen = probe(tmp_path, files=make_images(tmp_path / "trainA", 3))

    seen.evaluate(*map(on_cpu, generators), {"D_A": D, "D_B": D})

    assert (str(random_states(CPU)), random.getstate()) == drawn
    after = networks.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [id(buffer) for buffer in networks.buffers()] == buffers
    assert [module.training for module in networks.modules()] == flags
    assert [parameter.requires_grad for parameter in networks.parameters()] == learns
    assert all(parameter.grad is None for parameter in networks.parameters())


def test_generators_that_draw_noise_draw_the_same_at_every_look(tmp_path, make_images):
    G = on_cpu(EDSRGenerator(4, blocks=1, noise=1))
    seen = probe(tmp_path, files=make_images(tmp_path / "trainA", 3))
    first = seen.evaluate(G, G)
    torch.rand(5)
    second = seen.evaluate(G, G)
    assert first[1] == second[1]
    assert first[0].image.tobytes() == second[0].image.tobytes()


def test_nothing_is_translated_twice(tmp_path, make_images):
    passes = []

    class Counted(Brighter):
        def forward(self, image: Tensor) -> Tensor:
            passes.append(len(image))
            return super().forward(image)

    G = on_cpu(Counted(0))
    probe(tmp_path, files=make_images(tmp_path / "trainA", 3)).evaluate(G, G, {"D_A": Halves()})
    # Each of three images there and back, in both directions.
    assert sum(passes) == 12


def test_with_a_scale_the_domains_differ_in_size(tmp_path, make_images):
    make_images(tmp_path / "testA", 2, size=(32, 24))
    make_images(tmp_path / "testB", 2, size=(64, 48))
    seen = probe(tmp_path, scale=2)
    assert seen.crops == {"A": 8, "B": 16}
    G_AB = EDSRGenerator(4, blocks=1, scale=2)
    G_BA = EDSRGenerator(4, blocks=1, shrink=2)
    _, values = seen.evaluate(on_cpu(G_AB), on_cpu(G_BA), {"D_A": Halves(), "D_B": Halves()})
    names = (OF_PICTURES | OF_JUDGES) - {"change"}
    assert values.keys() == {f"{name}_{domain}" for name in names for domain in "AB"}


def test_the_test_images_are_shown_where_there_are_any(tmp_path, make_images):
    make_images(tmp_path / "testA", 2, size=(40, 30))
    make_images(tmp_path / "testB", 3, size=(64, 90))
    files = make_images(tmp_path / "trainA", 3)
    seen = probe(tmp_path, files=files)
    assert [image.size for image in seen.images_A] == [(40, 30)] * 2
    assert [image.size for image in seen.images_B] == [(64, 90)] * 3


@pytest.mark.parametrize(("asked", "shown"), [(1, 1), (4, 4), (16, 9)])
def test_training_images_are_shown_evenly_spread_and_always_the_same(
    tmp_path, make_images, asked, shown
):
    files = make_images(tmp_path / "trainA", 9)
    first, second = (probe(tmp_path, files=files, num_previews=asked) for _ in "ab")
    assert len(first.images_A) == shown
    assert first.names_A == second.names_A
    assert first.names_A[0] == files[0].name
    if shown > 1:
        assert first.names_A[-1] == files[-1].name
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first.images_A, second.images_A))


def test_large_images_are_cut_to_their_middle(tmp_path, make_images):
    make_images(tmp_path / "testA", 1, size=(700, 300))
    make_images(tmp_path / "testB", 1, size=(520, 900))
    seen = probe(tmp_path)
    assert [seen.images_A[0].size, seen.images_B[0].size] == [(512, 300), (512, 512)]
    # With a scale both are to be as large in the end.
    assert probe(tmp_path, scale=2).images_A[0].size == (256, 256)


def test_an_unreadable_image_is_passed_over(tmp_path, make_images):
    files = make_images(tmp_path / "trainA", 3)
    files[1].write_bytes(b"no image")
    seen = probe(tmp_path, files=files)
    assert seen.names_A == [files[0].name, files[2].name]


def test_where_no_image_can_be_read_there_is_a_sheet_all_the_same(tmp_path):
    G = on_cpu(Brighter(1))
    preview, values = probe(tmp_path).evaluate(G, G, {"D_A": Halves()})
    assert values == {}
    assert preview.image.width > 1000
