"""The windows of the live page, as the messages that make them.

A page at least 1280 px wide has three columns of cells. Visdom puts windows side by side in the
order of their making, and moves them up where there is room: beside a tall preview, two cells wide,
the third column begins with what comes first and third in the rows beneath.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cyclegan.monitor.health.curves import losses, smoothed
from cyclegan.monitor.health.history import Drawn

Message = dict[str, Any]

PREVIEW, HEALTH = "preview", "health"
# Pixels. Visdom leaves 10 between windows.
GAP = 10
CELL, HEIGHT = 406, 290
LEAST = 400  # of the health's
# Visdom's grid.
_ROW, _BAR_AND_GAP = 15, 24
# Of the slider: no fewer than there are pictures.
POSITIONS = 200
TWO_CELLS, THREE_CELLS = 2 * CELL + GAP, 3 * CELL + 2 * GAP

# A domain, or a network, has the same colour in all windows.
OWN_COLOURS = {
    "_G_AB": "#2f6fb2",
    "_G_BA": "#e0742c",
    "_D_A": "#3a9a5b",
    "_D_B": "#b8475a",
    "_A": "#2f6fb2",
    "_B": "#e0742c",
}
COLOURS = ("#2f6fb2", "#e0742c", "#3a9a5b", "#b8475a", "#7a5ea8", "#8a6d4f", "#c9599f", "#6b7280")
_DASHES = ("solid", "dash", "dot", "dashdot")
FAINT = "#6b7280"

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
            traces.append(line_of(f"{name}, each", points, line) | extra)
            points = Drawn(points.steps, short(smoothed(points.values)))
        line = {"color": colour, "width": 2, "dash": dash}
        traces.append(line_of(name, points, line) | {"legendgroup": name})
    return figure(title, traces, layout_of(title, curves))


def empty_plot(title: str) -> Message:
    """Keeps the place of curves that are still to come."""
    note = {
        "text": "comes with the first reports and previews",
        "font": {"size": 12, "color": FAINT},
        **{"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False},
    }
    return figure(title, [nothing()], layout_of(title, ()) | {"annotations": [note]})


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


def height_beside(preview: int, *, beneath: int) -> int:
    """How high the window beside the preview is to be, so that with the one beneath it, and a plot
    where there is room for one, it ends where the preview does; all in pixels.
    """
    left = _rows(preview) - (_rows(beneath) if beneath else 0)
    rows = next((r for r in (left - _rows(HEIGHT), left) if r >= _rows(LEAST)), _rows(LEAST))
    return rows * _ROW - _BAR_AND_GAP


def _rows(height: int) -> int:
    return math.ceil((height + _BAR_AND_GAP) / _ROW)


def text(win: str, html: str, *, width: int = CELL, height: int = HEIGHT) -> Message:
    """A window of HTML, in which everything that is not ours has been escaped."""
    return {
        "win": win,
        "data": [{"type": "text", "content": html}],
        "opts": {"title": win, "width": width, "height": height},
    }


def _preview(size: tuple[int, int]) -> Message:
    # Beneath the picture there is room for caption and slider.
    height = round(size[1] * TWO_CELLS / size[0]) + 60
    return {"win": PREVIEW, "opts": {"title": PREVIEW, "width": TWO_CELLS, "height": height}}


def _caption(step: int) -> str:
    return f"step {step:,}"


def figure(
    title: str,
    traces: Sequence[Message],
    layout: Message,
    *,
    width: int = CELL,
    height: int = HEIGHT,
) -> Message:
    opts = {"title": title, "width": width, "height": height}
    return {"win": title, "data": list(traces), "layout": layout, "opts": opts}


def nothing() -> Message:
    """Visdom takes no plot without a trace."""
    return line_of("", Drawn([], []), {}) | {"showlegend": False}


def line_of(name: str, points: Drawn, line: Message) -> Message:
    """Of a single point, which makes no line, the point."""
    return {
        **{"type": "scatter", "mode": "markers" if len(points.steps) == 1 else "lines"},
        **{"name": name, "line": line, "x": points.steps, "y": points.values},
        # The page's smoothing button expects a marker's line, even on curves without.
        "marker": {"size": 7, "line": {"width": 0}} | {"color": line.get("color", FAINT)},
    }


def layout_of(title: str, names: Iterable[str]) -> Message:
    axis = {
        **{"gridcolor": "#eceff3", "linecolor": "#c9ced6", "zerolinecolor": "#c9ced6"},
        **{"tickfont": {"size": 10, "color": FAINT}, "exponentformat": "e", "nticks": 6},
        # To see whether a number sticks out of the window takes a fifth of the time of drawing.
        "ticklabeloverflow": "allow",
    }
    across: Message = axis | {"tickformat": "~s", "title": axis_title("step"), "zeroline": False}
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


def axis_title(title: str) -> Message:
    return {"text": title, "standoff": 4, "font": {"size": 10, "color": FAINT}}


def _looks(names: Iterable[str], *, of_runs: bool) -> Iterator[tuple[str, str, str]]:
    """Name, colour and dash of each, no two alike while there are enough."""
    used: Counter[str] = Counter()
    for index, name in enumerate(names if of_runs else sorted(names)):
        stem = "" if of_runs else name.split(".", 1)[0]
        own = next((c for suffix, c in OWN_COLOURS.items() if stem.endswith(suffix)), None)
        colour = own or COLOURS[index % len(COLOURS)]
        yield name, colour, _DASHES[used[colour] % len(_DASHES)]
        used[colour] += 1


def _faint(colour: str) -> str:
    # Not by opacity: the page sets that of lines to 1.
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.28)"


def short(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
