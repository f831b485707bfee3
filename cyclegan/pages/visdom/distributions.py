"""Histograms as windows of the live page: of the values in a network's layers, and of the cycle
errors of the training images.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from cyclegan.pages.plots import colour_of
from cyclegan.pages.visdom.windows import (
    COLOURS,
    GREY,
    HEIGHT,
    THREE_CELLS,
    Message,
    axis_title,
    figure,
    layout_of,
    rounded,
)
from cyclegan.runs.artifacts import Histogram, Histograms

ERRORS = "cycle error of the training images"


def layer_plots(step: int, histograms: Histograms) -> Iterator[tuple[str, Callable[[], Message]]]:
    """A window for each network: the distributions in its layers as boxes, with weights, gradients
    and activations side by side.
    """
    networks: dict[str, dict[str, dict[str, Histogram]]] = {}
    for name, histogram in histograms.by_name.items():
        kind, network, layer = [*name.split("/", 2), "", ""][:3]
        if _is_valid(histogram):
            networks.setdefault(network, {}).setdefault(kind, {})[layer] = histogram
    for network, kinds in networks.items():
        title = f"layers of {network}"
        yield title, partial(_layers, title, kinds, step=step)


def error_histograms(step: int, histograms: Mapping[str, Histogram]) -> Message:
    """The cycle errors of the training images as bars, by domain."""
    traces = []
    valid = {name: found for name, found in sorted(histograms.items()) if _is_valid(found)}
    for domain, histogram in valid.items():
        width = (histogram.high - histogram.low) / len(histogram.counts)
        centres = [histogram.low + (i + 0.5) * width for i in range(len(histogram.counts))]
        colour = colour_of(f"_{domain}")
        traces.append(
            {
                **{"type": "bar", "name": domain, "x": rounded(centres)},
                **{"y": list(histogram.counts), "width": width, "opacity": 0.6},
                "marker": {"color": COLOURS[2 if colour is None else colour], "line": {"width": 0}},
            }
        )
    layout = layout_of(ERRORS, valid) | {"barmode": "overlay", "bargap": 0}
    layout["xaxis"] |= {"title": axis_title(f"levels of 255, at step {step:,}")}
    return figure(ERRORS, traces, layout)


def quantile(histogram: Histogram, fraction: float) -> float:
    """The value below which that fraction lies, if the values are uniform within each bin."""
    wanted, before = fraction * sum(histogram.counts), 0
    width = (histogram.high - histogram.low) / len(histogram.counts)
    for index, count in enumerate(histogram.counts):
        if count and before + count >= wanted:
            return histogram.low + width * (index + (wanted - before) / count)
        before += count
    return histogram.high


def _is_valid(histogram: Histogram) -> bool:
    # A page does not read a message that contains NaN.
    return sum(histogram.counts) > 0 and math.isfinite(histogram.high - histogram.low)


def _layers(title: str, kinds: Mapping[str, Mapping[str, Histogram]], *, step: int) -> Message:
    # Every layer has a row, also those without weights, which have activations alone.
    names = list(dict.fromkeys(layer for layers in kinds.values() for layer in layers))
    layout = layout_of(title, ())
    x_axis = layout.pop("xaxis")
    del x_axis["tickformat"]
    boxes = []
    for index, (kind, layers) in enumerate(kinds.items(), start=1):
        rows = {names.index(layer): histogram for layer, histogram in layers.items()}
        boxes.append(_boxes(kind, rows) | {"xaxis": f"x{index}", "yaxis": "y"})
        label = axis_title(f"{kind}: the middle 50 % and 90 %, at step {step:,}")
        domain = [(index - 1) / len(kinds) + (0.02 if index > 1 else 0), index / len(kinds)]
        layout[f"xaxis{index}"] = x_axis | {"domain": domain, "title": label}
    layout["yaxis"] = {
        **{"autorange": "reversed", "tickfont": {"size": 10, "color": GREY}},
        **{"gridcolor": "#eceff3", "zeroline": False},
        **{"tickmode": "array", "tickvals": list(range(len(names)))},
        "ticktext": [name if len(name) <= 30 else f"...{name[-27:]}" for name in names],
    }
    layout["margin"] |= {"l": 190, "t": 18}
    layout["hovermode"] = "closest"
    height = max(HEIGHT, 80 + 14 * len(names))
    return figure(title, boxes, layout, width=THREE_CELLS, height=height)


def _boxes(kind: str, rows: Mapping[int, Histogram]) -> Message:
    def quantiles(fraction: float) -> list[float]:
        return rounded(quantile(histogram, fraction) for histogram in rows.values())

    return {
        **{"type": "box", "orientation": "h", "name": kind, "showlegend": False},
        # Row numbers, because two layers may share a shortened name, and one would hide the other.
        **{"y": list(rows), "median": quantiles(0.5)},
        **{"q1": quantiles(0.25), "q3": quantiles(0.75)},
        **{"lowerfence": quantiles(0.05), "upperfence": quantiles(0.95)},
        **{"line": {"width": 1, "color": COLOURS[0]}, "fillcolor": "#a9c7e6", "width": 0.7},
    }
