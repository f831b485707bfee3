"""The windows of the live page, as the messages that make them.

A page at least 1280 px wide has three columns of cells. Visdom puts windows side by side in the
order of their making, and moves them up where there is room: beside a tall preview, two cells wide,
the third column begins with what comes first and third in the rows beneath.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cyclegan.monitor import Histogram, Histograms
from cyclegan.monitor.curves import losses, smoothed
from cyclegan.monitor.visdom_history import Drawn

Message = dict[str, Any]

PREVIEW, HEALTH = "preview", "health"
SPREAD = "cycle error of the training images"
# Pixels. Visdom leaves 10 between windows.
GAP = 10
CELL, HEIGHT = 406, 290
# Of the slider: no fewer than there are pictures.
POSITIONS = 40
TWO_CELLS, THREE_CELLS = 2 * CELL + GAP, 3 * CELL + 2 * GAP

# A domain, or a network, has the same colour in all windows.
_OWN_COLOURS = {
    "_G_AB": "#2f6fb2",
    "_G_BA": "#e0742c",
    "_D_A": "#3a9a5b",
    "_D_B": "#b8475a",
    "_A": "#2f6fb2",
    "_B": "#e0742c",
}
_COLOURS = ("#2f6fb2", "#e0742c", "#3a9a5b", "#b8475a", "#7a5ea8", "#8a6d4f", "#c9599f", "#6b7280")
_DASHES = ("solid", "dash", "dot", "dashdot")
_FAINT = "#6b7280"

# What the values of these groups are bound to; a rate that stays at 2e-4 would get an axis from -1
# to 1 without its zero.
_RANGES = {
    "share of pairs that D tells apart": [0, 1.02],
    "correlation of fake with its input": [-1.02, 1.02],
}
_WITHOUT_ZERO = ("PSNR to real B, dB",)
_SMOOTHED_TOO = "gradient norms"


def plot(title: str, curves: Mapping[str, Drawn], *, of_runs: bool = False) -> Message:
    """Curves of one group; of noisy ones the smoothed line is strong and the points are faint.

    Where each is of another run, by whose name it goes, they are drawn as they are.
    """
    traces = []
    noisy = bool(losses(dict.fromkeys(curves, 0.0))) or title == _SMOOTHED_TOO
    for name, colour, dash in _looks(curves, of_runs=of_runs):
        points = curves[name]
        if noisy and not of_runs and len(points.values) > 2:
            line = {"color": _faint(colour), "width": 1}
            extra = {"showlegend": False, "hoverinfo": "skip", "legendgroup": name}
            traces.append(_trace(f"{name}, each", points, line) | extra)
            points = Drawn(points.steps, _short(smoothed(points.values)))
        line = {"color": colour, "width": 2, "dash": dash}
        traces.append(_trace(name, points, line) | {"legendgroup": name})
    return _figure(title, traces, _layout(title, curves))


def empty_plot(title: str) -> Message:
    """Keeps the place of curves that are still to come."""
    note = {
        "text": "comes with the first reports and previews",
        "font": {"size": 12, "color": _FAINT},
        **{"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False},
    }
    nothing = _trace("", Drawn([], []), {}) | {"showlegend": False}
    return _figure(title, [nothing], _layout(title, ()) | {"annotations": [note]})


def slider(frames: Sequence[tuple[int, str]], *, size: tuple[int, int]) -> Message:
    """The preview's window on our own server: steps and sources, the newest last, whose size is in
    pixels.

    It always has POSITIONS, over which the pictures are spread, and stands at the last: a page goes
    blank when its slider gets shorter, and moves when the server's moves.
    """
    placed = [frames[index * len(frames) // POSITIONS] for index in range(POSITIONS)]
    content = [{"src": source, "caption": _caption(step)} for step, source in placed]
    return _preview(size) | {"frames": content, "data": [{"type": "image_history", "content": {}}]}


def plain_slider(step: int, jpeg: bytes, *, size: tuple[int, int]) -> Message:
    """The preview's window on a server of Visdom's own: the newest picture alone."""
    source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    content = {"src": source, "caption": _caption(step)}
    return _preview(size) | {"data": [{"type": "image_history", "content": content}]}


def text(win: str, html: str, *, width: int = CELL, height: int = HEIGHT) -> Message:
    """A window of HTML, in which everything that is not ours has been escaped."""
    return {
        "win": win,
        "data": [{"type": "text", "content": html}],
        "opts": {"title": win, "width": width, "height": height},
    }


def histogram_plots(
    step: int, histograms: Histograms
) -> Iterator[tuple[str, Callable[[], Message]]]:
    """A window for each network: how the values of its layers are spread, as boxes, with weights,
    gradients and activations side by side.
    """
    together: dict[str, dict[str, dict[str, Histogram]]] = {}
    for name, histogram in histograms.of.items():
        kind, network, layer = [*name.split("/", 2), "", ""][:3]
        if _is_sound(histogram):
            together.setdefault(network, {}).setdefault(kind, {})[layer] = histogram
    for network, kinds in together.items():
        title = f"layers of {network}"
        yield title, partial(_layers, title, kinds, step=step)


def error_bars(step: int, spread: Mapping[str, Histogram]) -> Message:
    """How the cycle errors of the training images are spread, by domain."""
    traces = []
    sound = {domain: found for domain, found in sorted(spread.items()) if _is_sound(found)}
    for domain, histogram in sound.items():
        width = (histogram.high - histogram.low) / len(histogram.counts)
        centres = [histogram.low + (i + 0.5) * width for i in range(len(histogram.counts))]
        colour = _OWN_COLOURS.get(f"_{domain}", _COLOURS[2])
        traces.append(
            {
                **{"type": "bar", "name": domain, "x": _short(centres)},
                **{"y": list(histogram.counts), "width": width, "opacity": 0.6},
                "marker": {"color": colour, "line": {"width": 0}},
            }
        )
    layout = _layout(SPREAD, sound) | {"barmode": "overlay", "bargap": 0}
    layout["xaxis"] |= {"title": _axis_title(f"levels of 255, at step {step:,}")}
    return _figure(SPREAD, traces or [_trace("", Drawn([], []), {})], layout)


def quantile(histogram: Histogram, share: float) -> float:
    """The value beneath which that share of a histogram lies, each bin taken as evenly filled."""
    wanted, before = share * sum(histogram.counts), 0
    width = (histogram.high - histogram.low) / len(histogram.counts)
    for index, count in enumerate(histogram.counts):
        if count and before + count >= wanted:
            return histogram.low + width * (index + (wanted - before) / count)
        before += count
    return histogram.high


def _is_sound(histogram: Histogram) -> bool:
    # A page does not read a message with NaN in it.
    return sum(histogram.counts) > 0 and math.isfinite(histogram.high - histogram.low)


def _layers(title: str, kinds: Mapping[str, Mapping[str, Histogram]], *, step: int) -> Message:
    # Of layers that have one kind alone, as activations of layers without weights, all have a row.
    names = list(dict.fromkeys(layer for layers in kinds.values() for layer in layers))
    layout = _layout(title, ())
    across = layout.pop("xaxis")
    del across["tickformat"]
    share = 1 / len(kinds)
    boxes = []
    for index, (kind, layers) in enumerate(kinds.items(), start=1):
        rows = {names.index(layer): histogram for layer, histogram in layers.items()}
        boxes.append(_boxes(kind, rows) | {"xaxis": f"x{index}", "yaxis": "y"})
        words = f"{kind}: the middle 50 % and 90 %, at step {step:,}"
        place = [(index - 1) * share + (0.02 if index > 1 else 0), index * share]
        layout[f"xaxis{index}"] = across | {"domain": place, "title": _axis_title(words)}
    layout["yaxis"] = {
        **{"autorange": "reversed", "tickfont": {"size": 10, "color": _FAINT}},
        **{"gridcolor": "#eceff3", "zeroline": False},
        **{"tickmode": "array", "tickvals": list(range(len(names)))},
        "ticktext": [name if len(name) <= 30 else f"...{name[-27:]}" for name in names],
    }
    layout["margin"] |= {"l": 190, "t": 18}
    layout["hovermode"] = "closest"
    height = max(HEIGHT, 80 + 14 * len(names))
    return _figure(title, boxes, layout, width=THREE_CELLS, height=height)


def _boxes(kind: str, rows: Mapping[int, Histogram]) -> Message:
    def quantiles(share: float) -> list[float]:
        return _short(quantile(histogram, share) for histogram in rows.values())

    return {
        **{"type": "box", "orientation": "h", "name": kind, "showlegend": False},
        # Numbered: of two layers whose names end alike, one would hide the other.
        **{"y": list(rows), "median": quantiles(0.5)},
        **{"q1": quantiles(0.25), "q3": quantiles(0.75)},
        **{"lowerfence": quantiles(0.05), "upperfence": quantiles(0.95)},
        **{"line": {"width": 1, "color": _COLOURS[0]}, "fillcolor": "#a9c7e6", "width": 0.7},
    }


def _preview(size: tuple[int, int]) -> Message:
    # Beneath the picture there is room for caption and slider.
    height = round(size[1] * TWO_CELLS / size[0]) + 60
    return {"win": PREVIEW, "opts": {"title": PREVIEW, "width": TWO_CELLS, "height": height}}


def _caption(step: int) -> str:
    return f"step {step:,}"


def _figure(
    title: str,
    traces: Sequence[Message],
    layout: Message,
    *,
    width: int = CELL,
    height: int = HEIGHT,
) -> Message:
    opts = {"title": title, "width": width, "height": height}
    return {"win": title, "data": list(traces), "layout": layout, "opts": opts}


def _trace(name: str, points: Drawn, line: Message) -> Message:
    return {
        **{"type": "scatter", "mode": "lines", "name": name, "line": line},
        **{"x": points.steps, "y": points.values},
        # The page's smoothing button expects a marker's line, even on curves without.
        "marker": {"line": {"width": 0}},
    }


def _layout(title: str, names: Iterable[str]) -> Message:
    axis = {
        **{"gridcolor": "#eceff3", "linecolor": "#c9ced6", "zerolinecolor": "#c9ced6"},
        **{"tickfont": {"size": 10, "color": _FAINT}, "exponentformat": "e", "nticks": 6},
    }
    across: Message = axis | {"tickformat": "~s", "title": _axis_title("step"), "zeroline": False}
    up: Message = axis | {"rangemode": "normal" if title in _WITHOUT_ZERO else "tozero"}
    if title in _RANGES:
        up["range"] = _RANGES[title]
    # The legend stands above the curves, in as many lines as it takes.
    lines = math.ceil(sum(6 * len(name) + 44 for name in names) / (CELL - 60))
    return {
        "legend": {
            **{"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
            **{"font": {"size": 10}, "tracegroupgap": 0},
        },
        "showlegend": lines > 0,
        "hovermode": "x unified",
        "margin": {"l": 52, "r": 14, "t": 14 + 19 * lines, "b": 40},
        "xaxis": across,
        "yaxis": up,
    }


def _axis_title(title: str) -> Message:
    return {"text": title, "standoff": 4, "font": {"size": 10, "color": _FAINT}}


def _looks(names: Iterable[str], *, of_runs: bool) -> Iterator[tuple[str, str, str]]:
    """Name, colour and dash of each, no two alike while there are enough."""
    used: Counter[str] = Counter()
    for index, name in enumerate(names if of_runs else sorted(names)):
        stem = "" if of_runs else name.split(".", 1)[0]
        own = next((c for suffix, c in _OWN_COLOURS.items() if stem.endswith(suffix)), None)
        colour = own or _COLOURS[index % len(_COLOURS)]
        yield name, colour, _DASHES[used[colour] % len(_DASHES)]
        used[colour] += 1


def _faint(colour: str) -> str:
    # Not by opacity: the page sets that of lines to 1.
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.28)"


def _short(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
