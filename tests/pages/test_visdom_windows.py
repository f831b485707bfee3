"""The windows of the live page, as messages; and the health and images in them, as HTML."""

import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image

from cyclegan.monitor.health.curves import smoothed
from cyclegan.monitor.health.history import CurvePoints
from cyclegan.pages import plots
from cyclegan.pages.plots import lines_of
from cyclegan.pages.report import svg_charts
from cyclegan.pages.visdom import distributions, live_page, windows
from cyclegan.pages.visdom.distributions import quantile
from cyclegan.runs.artifacts import Alarm, HardImage, HardImages, Health, Histogram, Histograms

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
POINTS = CurvePoints([1, 2, 3, 4], [1.0, 3.0, 2.0, 4.0])


def traces(message: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in message["data"]}


def html(message: dict) -> str:
    return message["data"][0]["content"].partition("</style>")[2]


def looks(*names: str, same_quantity: bool = False) -> list[tuple[int, int]]:
    """Colours and dashes, for every page."""
    curves = dict.fromkeys(names, POINTS)
    lines = lines_of(curves, smooth=lambda name, values: False, same_quantity=same_quantity)
    return [(line.colour, line.dash) for line in lines]


# Curves


def test_a_loss_is_drawn_faint_behind_its_running_mean():
    drawn = traces(windows.plot("cycle", {"cycle_A": POINTS}))
    assert drawn["cycle_A"]["y"] == pytest.approx(smoothed(POINTS.values), rel=1e-3)
    assert drawn["cycle_A, each"]["y"] == POINTS.values
    assert drawn["cycle_A"]["line"]["width"] > drawn["cycle_A, each"]["line"]["width"]
    assert drawn["cycle_A, each"]["line"]["color"].startswith("rgba(")
    assert drawn["cycle_A, each"]["showlegend"] is False


@pytest.mark.parametrize("name", ["lr", "pairs_A", "images_per_second", "psnr"])
def test_other_curves_are_drawn_as_they_are(name):
    drawn = traces(windows.plot("any", {name: POINTS}))
    assert list(drawn) == [name]
    assert drawn[name]["y"] == POINTS.values


def test_a_domain_has_one_colour_and_its_parts_other_dashes():
    names = ("cycle_A", "cycle_A.l1", "cycle_B", "gradient_D_A", "swd")
    assert looks(*names) == [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)]


def test_no_two_curves_of_a_plot_look_alike():
    names = [f"gradient_{network}" for network in ("G_AB", "G_BA", "D_A", "D_B")]
    names += ["score_real_A", "score_fake_A", "score_real_B", "score_fake_B"]
    assert len(set(looks(*names))) == len(names)
    assert len(set(looks(*map(str, range(32)), same_quantity=True))) == 32


def test_every_page_has_all_colours_and_dashes():
    css = Path(svg_charts.__file__).with_name("report.css").read_text()
    assert all(f".c{index} {{" in css for index in range(plots.NUM_COLOURS))
    assert all(f".d{index} polyline" in css for index in range(1, plots.NUM_DASHES))
    assert (len(windows.COLOURS), len(windows._DASHES)) == (plots.NUM_COLOURS, plots.NUM_DASHES)


def test_runs_that_are_named_like_curves_are_drawn_like_other_runs():
    assert looks("cycle_B", "D_A", same_quantity=True) == [(0, 0), (1, 0)]
    drawn = traces(windows.plot("psnr", {"cycle_A": POINTS, "D_A": POINTS}, of_runs=True))
    assert list(drawn) == ["cycle_A", "D_A"]
    assert drawn["cycle_A"]["line"]["color"] != drawn["D_A"]["line"]["color"]


def test_a_single_point_is_drawn_as_a_marker():
    drawn = traces(windows.plot("cycle", {"cycle_A": CurvePoints([100], [1.5])}))
    assert drawn["cycle_A"]["mode"] == "markers"


def test_an_empty_plot_reserves_a_place():
    message = windows.empty_plot("cycle")
    assert message["win"] == "cycle"
    assert message["data"][0]["x"] == []
    assert "comes with" in message["layout"]["annotations"][0]["text"]


def test_three_columns_fit_a_page_1280_wide():
    assert 3 * windows.CELL + 4 * windows.GAP <= 1265
    assert windows.TWO_CELLS == 2 * windows.CELL + windows.GAP


@pytest.mark.parametrize("beneath", [0, 136])
def test_the_windows_beside_the_preview_end_where_it_does(beneath):
    def grid(height):
        """Rows as Visdom's page counts them."""
        return math.ceil((height + 14 + 10) / 15)

    for preview in range(300, 3000, 77):
        height = windows.height_beside(preview, beneath=beneath)
        used = grid(height) + (grid(beneath) if beneath else 0)
        assert height >= windows.MIN_HEALTH_HEIGHT
        if grid(preview) >= grid(windows.MIN_HEALTH_HEIGHT) + grid(136):
            assert grid(preview) - used in (0, grid(windows.HEIGHT))


# Histograms


def test_quantiles_assume_uniform_bins():
    histogram = Histogram((2, 0, 6, 2), low=0.0, high=4.0)
    assert quantile(histogram, 0.1) == pytest.approx(0.5)
    assert quantile(histogram, 0.5) == pytest.approx(2.5)
    assert quantile(histogram, 1.0) == pytest.approx(4.0)
    assert quantile(Histogram((4,), 1.0, 3.0), 0.25) == pytest.approx(1.5)


def test_layers_keep_their_order_and_show_their_kinds_side_by_side():
    of = {
        f"{kind}/G_AB/{layer}": Histogram((1, 2, 1), -1.0, 2.0)
        for kind in ("weights", "gradients", "activations")
        for layer in ("last", "first")
    }
    of["activations/G_AB/norm"] = Histogram((4,), 0.0, 1.0)
    of["weights/D_A/empty"] = Histogram((0, 0), 0.0, 1.0)
    of["weights/D_A/broken"] = Histogram((1, 2), 0.0, float("nan"))
    made = dict(distributions.layer_plots(500, Histograms(of)))
    assert list(made) == ["layers of G_AB"]
    message = made["layers of G_AB"]()
    weights, _, activations = message["data"]
    assert message["layout"]["yaxis"]["ticktext"] == ["last", "first", "norm"]
    assert (weights["y"], activations["y"]) == ([0, 1], [0, 1, 2])
    assert weights["median"] == [0.5, 0.5]
    assert weights["lowerfence"] == pytest.approx([-0.8, -0.8])
    assert [message["layout"][f"xaxis{i}"]["title"]["text"].split(":")[0] for i in (1, 2, 3)] == [
        "weights",
        "gradients",
        "activations",
    ]


def test_thirty_layers_fit():
    of = {f"weights/G_AB/layer{i}": Histogram((1, 1), 0.0, 1.0) for i in range(30)}
    message = dict(distributions.layer_plots(1, Histograms(of)))["layers of G_AB"]()
    assert message["opts"]["height"] / 30 >= 12


# Health and images


def test_alarms_come_first_with_their_meaning_and_remedy():
    alarm = Alarm("collapse", "G_AB", "outputs are alike", "one image for all", "lower --lr")
    text = html(live_page.health(1200, Health(("pairs: 0.7",), (alarm,))))
    parts = ("collapse", "G_AB", "outputs are alike", "one image for all", "lower --lr")
    places = [text.index(part) for part in (*parts, "pairs: 0.7", "step 1,200")]
    assert places == sorted(places)
    assert "Nothing looks wrong" not in text


def test_a_run_without_alarms_is_said_to_be_healthy():
    text = html(live_page.health(1, Health(("all is well",), ())))
    assert "Nothing looks wrong" in text
    assert 'class="alarm"' not in text


def test_text_is_escaped():
    image = HardImage(HOSTILE, 3.0, Image.new("RGB", (8, 8)))
    for message in (
        live_page.health(1, Health((HOSTILE,), (Alarm(*[HOSTILE] * 5),))),
        live_page.hard_images(1, HardImages({}, {HOSTILE: (image,)})),
        windows.notice("any", HOSTILE),
    ):
        assert "<img src=x" not in html(message)
        assert "&lt;img" in html(message)
        assert not re.search(r'\s[\w-]+="[^"]*<', html(message))


def test_the_worst_images_come_first_and_stay_small():
    noise = Image.effect_noise((256, 256), 100).convert("RGB")
    worst = tuple(HardImage(f"trainA/{i:03}.png", 30.0 - i, noise) for i in range(40))
    message = live_page.hard_images(800, HardImages({}, {"A": worst, "B": worst}))
    text = html(message)
    assert text.count("<details") == 2 * live_page.MAX_IMAGES
    assert text.index("trainA/000.png") < text.index("trainA/001.png")
    assert len(json.dumps(message)) < 300_000


def test_the_histogram_of_errors_has_a_bar_for_each_bin():
    errors = {"A": Histogram((1, 3), 0.0, 10.0), "B": Histogram((2, 2), 5.0, 9.0)}
    drawn = traces(distributions.error_histograms(5, errors))
    assert (drawn["A"]["x"], drawn["A"]["y"], drawn["A"]["width"]) == ([2.5, 7.5], [1, 3], 5.0)
    assert drawn["B"]["x"] == [6.0, 8.0]


@pytest.mark.parametrize("errors", [{}, {"A": Histogram((1,), 0.0, float("inf"))}])
def test_invalid_histograms_leave_an_empty_plot(errors):
    message = distributions.error_histograms(5, errors)
    assert message["data"][0]["x"] == []
    json.dumps(message, allow_nan=False)
