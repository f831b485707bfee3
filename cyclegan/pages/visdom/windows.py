"""The windows of the live page, as Visdom's messages.

A page at least 1280 px wide has three columns of cells. Visdom places windows side by side in the
order in which they were made, and moves them up where there is room: beside a tall preview, two
cells wide, the third column begins with the first and the third window of the rows beneath.
"""

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cyclegan.monitor.health.history import CurvePoints
from cyclegan.pages.plots import is_noisy, lines_of

Message = dict[str, Any]

PREVIEW, HEALTH = "preview", "health"
# Pixels. Visdom leaves a gap of 10 between windows.
GAP = 10
CELL, HEIGHT = 406, 290
TWO_CELLS, THREE_CELLS = 2 * CELL + GAP, 3 * CELL + 2 * GAP
MIN_HEALTH_HEIGHT = 400
# A row of Visdom's grid, and what a window needs besides its content: its bar and a gap.
_ROW, _BAR_AND_GAP = 15, 24
# Positions of the slider: no fewer than there are previews.
POSITIONS = 200

COLOURS = ("#2f6fb2", "#e0742c", "#3a9a5b", "#b8475a", "#7a5ea8", "#8a6d4f", "#c9599f", "#6b7280")
GREY = "#6b7280"
_DASHES = ("solid", "dash", "dot", "dashdot")

# The bounds of these quantities. Other axes include 0, without which a learning rate that stays at
# 2e-4 would get an axis from -1 to 1, but for decibels, whose 0 means nothing.
_RANGES = {
    "share of pairs that D tells apart": [0, 1.02],
    "correlation of fake with its input": [-1.02, 1.02],
}
_WITHOUT_ZERO = ("PSNR to real B, dB", "psnr")

_TEXT_STYLE = Path(__file__).with_name("text_window.css")


def plot(title: str, curves: Mapping[str, CurvePoints], *, of_runs: bool = False) -> Message:
    """Curves of one group; noisy ones are faint behind their running means. With `of_runs` each
    curve goes by the name of its run, and is drawn as it is.
    """
    traces = []
    for line in lines_of(
        curves,
        smooth=lambda name, values: not of_runs and is_noisy(name) and len(values) > 2,
        same_quantity=of_runs,
    ):
        colour, values = COLOURS[line.colour], line.values
        if line.means:
            faint = {"color": _translucent(colour), "width": 1}
            extra = {"showlegend": False, "hoverinfo": "skip", "legendgroup": line.name}
            traces.append(_trace(f"{line.name}, each", line.steps, values, faint) | extra)
            values = rounded(line.means)
        style = {"color": colour, "width": 2, "dash": _DASHES[line.dash]}
        traces.append(_trace(line.name, line.steps, values, style) | {"legendgroup": line.name})
    return figure(title, traces, layout_of(title, curves))


def empty_plot(title: str) -> Message:
    """Reserves the place of curves that are still to come."""
    note = {
        "text": "comes with the first reports and previews",
        "font": {"size": 12, "color": GREY},
        **{"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False},
    }
    return figure(title, [], layout_of(title, ()) | {"annotations": [note]})


def figure(
    title: str,
    traces: Sequence[Message],
    layout: Message,
    *,
    width: int = CELL,
    height: int = HEIGHT,
) -> Message:
    # Visdom takes no plot without a trace.
    data = list(traces) or [_trace("", [], [], {}) | {"showlegend": False}]
    opts = {"title": title, "width": width, "height": height}
    return {"win": title, "data": data, "layout": layout, "opts": opts}


def slider(frames: Sequence[tuple[int, str]], *, size: tuple[int, int]) -> Message:
    """The preview's window on our own server: steps and sources of the previews, the newest last,
    whose size is given in pixels.

    It always has POSITIONS, over which the previews are spread, and stands at the last: a page goes
    blank if its slider gets shorter, and moves if the server's moves.
    """
    shown = [frames[index * len(frames) // POSITIONS] for index in range(POSITIONS)]
    content = [{"src": source, "caption": f"step {step:,}"} for step, source in shown]
    return _preview(size) | {"frames": content, "data": [{"type": "image_history", "content": {}}]}


def plain_slider(step: int, jpeg: bytes, *, size: tuple[int, int]) -> Message:
    """The preview's window on a server of Visdom's own: the newest picture alone."""
    source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    content = {"src": source, "caption": f"step {step:,}"}
    return _preview(size) | {"data": [{"type": "image_history", "content": content}]}


def text(name: str, html: str, *, width: int = CELL, height: int = HEIGHT) -> Message:
    """A window of HTML, in which everything that is not ours has been escaped."""
    style = _TEXT_STYLE.read_text(encoding="utf-8")
    content = f'<style>{style}</style><div class="run-text">{html}</div>'
    opts = {"title": name, "width": width, "height": height}
    return {"win": name, "data": [{"type": "text", "content": content}], "opts": opts}


def notice(name: str, words: str, *, width: int = CELL, height: int = HEIGHT) -> Message:
    return text(name, f'<p class="faint">{escape(words)}</p>', width=width, height=height)


def height_beside(preview: int, *, beneath: int) -> int:
    """The height in pixels of the window beside the preview: together with the one beneath it, and
    a plot if there is room for one, it ends where the preview does.
    """
    left = _rows(preview) - (_rows(beneath) if beneath else 0)
    least = _rows(MIN_HEALTH_HEIGHT)
    rows = next((rows for rows in (left - _rows(HEIGHT), left) if rows >= least), least)
    return rows * _ROW - _BAR_AND_GAP


def layout_of(title: str, names: Iterable[str]) -> Message:
    """The axes and the legend of a plot of curves with these names."""
    axis = {
        **{"gridcolor": "#eceff3", "linecolor": "#c9ced6", "zerolinecolor": "#c9ced6"},
        **{"tickfont": {"size": 10, "color": GREY}, "exponentformat": "e", "nticks": 6},
        # Checking whether a label sticks out of the window takes a fifth of the time of drawing.
        "ticklabeloverflow": "allow",
    }
    x_axis: Message = axis | {"tickformat": "~s", "title": axis_title("step"), "zeroline": False}
    y_axis: Message = axis | {"rangemode": "normal" if title in _WITHOUT_ZERO else "tozero"}
    if title in _RANGES:
        y_axis["range"] = _RANGES[title]
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
        "xaxis": x_axis,
        "yaxis": y_axis,
    }


def axis_title(title: str) -> Message:
    return {"text": title, "standoff": 4, "font": {"size": 10, "color": GREY}}


def rounded(values: Iterable[float]) -> list[float]:
    """Four significant digits: shorter messages."""
    return [float(f"{value:.4g}") for value in values]


def _trace(
    name: str, steps: Sequence[int], values: Sequence[float], line: Mapping[str, object]
) -> Message:
    return {
        # A single point makes no line.
        **{"type": "scatter", "mode": "markers" if len(steps) == 1 else "lines"},
        **{"name": name, "line": line, "x": steps, "y": values},
        # The page's smoothing button expects a marker's line, even on curves without markers.
        "marker": {"size": 7, "line": {"width": 0}} | {"color": line.get("color", GREY)},
    }


def _preview(size: tuple[int, int]) -> Message:
    # Leaves room for the caption and the slider beneath the picture.
    height = round(size[1] * TWO_CELLS / size[0]) + 60
    return {"win": PREVIEW, "opts": {"title": PREVIEW, "width": TWO_CELLS, "height": height}}


def _rows(height: int) -> int:
    return math.ceil((height + _BAR_AND_GAP) / _ROW)


def _translucent(colour: str) -> str:
    # The page sets the opacity of lines to 1, so it must be part of the colour.
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.28)"
