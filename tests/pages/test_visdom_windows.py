"""The windows of the live page, as the messages that make them."""

import json
import math
import re

import pytest
from PIL import Image

from cyclegan.monitor.health.curves import smoothed
from cyclegan.monitor.health.history import Drawn
from cyclegan.pages.visdom import distributions, windows
from cyclegan.pages.visdom import text as texts
from cyclegan.pages.visdom.distributions import quantile
from cyclegan.runs.artifacts import Alarm, HardImage, HardImages, Health, Histogram, Histograms

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
POINTS = Drawn([1, 2, 3, 4], [1.0, 3.0, 2.0, 4.0])


def traces(message: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in message["data"]}


# Curves


def test_of_a_loss_the_smoothed_line_is_strong_and_the_points_are_faint():
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


def test_a_domain_has_the_same_colour_in_all_windows():
    cycle = traces(windows.plot("cycle", {"cycle_A": POINTS, "cycle_A.l1": POINTS}))
    pairs = traces(windows.plot("pairs", {"pairs_A": POINTS, "pairs_B": POINTS}))
    colours = {drawn["line"]["color"] for drawn in (cycle["cycle_A"], pairs["pairs_A"])}
    assert len(colours) == 1
    assert pairs["pairs_B"]["line"]["color"] not in colours
    assert cycle["cycle_A"]["line"]["dash"] != cycle["cycle_A.l1"]["line"]["dash"]


def test_no_two_curves_of_a_window_look_alike():
    names = [f"gradient_{network}" for network in ("G_AB", "G_BA", "D_A", "D_B")]
    names += ["score_real_A", "score_fake_A", "score_real_B", "score_fake_B"]
    drawn = traces(windows.plot("any", dict.fromkeys(names, POINTS)))
    looks = {(drawn[n]["line"]["color"], drawn[n]["line"]["dash"]) for n in names}
    assert len(looks) == len(names)


def test_lines_of_runs_are_not_taken_for_curves_of_their_names():
    drawn = traces(windows.plot("psnr", {"cycle_A": POINTS, "D_A": POINTS}, of_runs=True))
    assert list(drawn) == ["cycle_A", "D_A"]
    assert drawn["cycle_A"]["line"]["color"] != drawn["D_A"]["line"]["color"]


def test_the_first_point_of_a_curve_is_seen():
    drawn = traces(windows.plot("cycle", {"cycle_A": Drawn([100], [1.5])}))
    assert drawn["cycle_A"]["mode"] == "markers"


def test_an_empty_plot_keeps_a_place():
    message = windows.empty_plot("cycle")
    assert message["win"] == "cycle"
    assert message["data"][0]["x"] == []
    assert "comes with" in message["layout"]["annotations"][0]["text"]


def test_three_columns_fit_a_page_1280_wide():
    assert 3 * windows.CELL + 4 * windows.GAP <= 1265
    assert windows.TWO_CELLS == 2 * windows.CELL + windows.GAP


@pytest.mark.parametrize("preview", range(300, 3000, 77))
@pytest.mark.parametrize("beneath", [0, 136])
def test_what_stands_beside_the_preview_ends_where_it_does(preview, beneath):
    def grid(height):
        """As Visdom's page counts."""
        return math.ceil((height + 14 + 10) / 15)

    height = windows.height_beside(preview, beneath=beneath)
    used = grid(height) + (grid(beneath) if beneath else 0)
    assert height >= windows.LEAST
    if grid(preview) >= grid(windows.LEAST) + grid(136):
        assert grid(preview) - used in (0, grid(windows.HEIGHT))


# Histograms


def test_a_quantile_takes_each_bin_as_evenly_filled():
    histogram = Histogram((2, 0, 6, 2), low=0.0, high=4.0)
    assert quantile(histogram, 0.1) == pytest.approx(0.5)
    assert quantile(histogram, 0.5) == pytest.approx(2.5)
    assert quantile(histogram, 1.0) == pytest.approx(4.0)
    assert quantile(Histogram((4,), 1.0, 3.0), 0.25) == pytest.approx(1.5)


def test_a_network_s_layers_stand_in_their_order_with_their_kinds_side_by_side():
    of = {
        f"{kind}/G_AB/{layer}": Histogram((1, 2, 1), -1.0, 2.0)
        for kind in ("weights", "gradients", "activations")
        for layer in ("last", "first")
    }
    of["activations/G_AB/norm"] = Histogram((4,), 0.0, 1.0)
    of["weights/D_A/empty"] = Histogram((0, 0), 0.0, 1.0)
    of["weights/D_A/broken"] = Histogram((1, 2), 0.0, float("nan"))
    made = dict(distributions.histogram_plots(500, Histograms(of)))
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


def test_thirty_layers_have_room():
    of = {f"weights/G_AB/layer{i}": Histogram((1, 1), 0.0, 1.0) for i in range(30)}
    message = dict(distributions.histogram_plots(1, Histograms(of)))["layers of G_AB"]()
    assert message["opts"]["height"] / 30 >= 12


# Health and images in words


def test_alarms_come_first_and_say_what_was_seen_what_it_means_and_what_to_try():
    alarm = Alarm("collapse", "G_AB", "outputs are alike", "one image for all", "lower --lr")
    html = texts.health(1200, Health(("pairs: 0.7",), (alarm,)))
    places = [html.index(part) for part in ("collapse, G_AB", *vars(alarm).values())][2:]
    assert places == sorted(places)
    assert html.index("lower --lr") < html.index("pairs: 0.7") < html.index("step 1,200")
    assert "no alarms" not in html


def test_a_run_without_alarms_is_said_to_have_none():
    html = texts.health(1, Health(("all is well",), ()))
    assert "no alarms" in html
    assert 'class="alarm"' not in html


def test_nothing_that_is_told_becomes_markup():
    health = texts.health(1, Health((HOSTILE,), (Alarm(*[HOSTILE] * 5),)))
    image = HardImage(HOSTILE, 3.0, Image.new("RGB", (8, 8)))
    gallery = texts.hard_images(1, HardImages({}, {HOSTILE: (image,)}))
    for html in (health, gallery, texts.notice(HOSTILE)):
        assert "<img src=x" not in html
        assert "&lt;img" in html
        assert not re.search(r'\s[\w-]+="[^"]*<', html)


def test_the_worst_images_open_with_their_names_and_stay_small():
    noise = Image.effect_noise((256, 256), 100).convert("RGB")
    worst = tuple(HardImage(f"trainA/{i:03}.png", 30.0 - i, noise) for i in range(40))
    html = texts.hard_images(800, HardImages({}, {"A": worst, "B": worst}))
    assert html.count("<details") == 2 * texts.MOST_IMAGES
    assert html.index("trainA/000.png") < html.index("trainA/001.png")
    assert len(json.dumps(html)) < 300_000


def test_the_spread_of_errors_has_a_bar_for_each_bin():
    errors = {"A": Histogram((1, 3), 0.0, 10.0), "B": Histogram((2, 2), 5.0, 9.0)}
    drawn = traces(distributions.error_bars(5, errors))
    assert (drawn["A"]["x"], drawn["A"]["y"], drawn["A"]["width"]) == ([2.5, 7.5], [1, 3], 5.0)
    assert drawn["B"]["x"] == [6.0, 8.0]


@pytest.mark.parametrize("errors", [{}, {"A": Histogram((1,), 0.0, float("inf"))}])
def test_a_spread_of_nothing_is_still_a_window(errors):
    message = distributions.error_bars(5, errors)
    assert message["data"][0]["x"] == []
    json.dumps(message, allow_nan=False)
