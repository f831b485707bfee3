"""How values are spread, as windows of the live page: those in a network's layers, and the cycle
errors of the training images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from cyclegan.pages.visdom.windows import (
    COLOURS,
    FAINT,
    HEIGHT,
    OWN_COLOURS,
    THREE_CELLS,
    Message,
    axis_title,
    figure,
    layout_of,
    nothing,
    short,
)
from cyclegan.runs.artifacts import Histogram, Histograms

ERRORS = "cycle error of the training images"


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
        colour = OWN_COLOURS.get(f"_{domain}", COLOURS[2])
        traces.append(
            {
                **{"type": "bar", "name": domain, "x": short(centres)},
                **{"y": list(histogram.counts), "width": width, "opacity": 0.6},
                "marker": {"color": colour, "line": {"width": 0}},
            }
        )
    layout = layout_of(ERRORS, sound) | {"barmode": "overlay", "bargap": 0}
    layout["xaxis"] |= {"title": axis_title(f"levels of 255, at step {step:,}")}
    return figure(ERRORS, traces or [nothing()], layout)


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
    layout = layout_of(title, ())
    across = layout.pop("xaxis")
    del across["tickformat"]
    share = 1 / len(kinds)
    boxes = []
    for index, (kind, layers) in enumerate(kinds.items(), start=1):
        rows = {names.index(layer): histogram for layer, histogram in layers.items()}
        boxes.append(_boxes(kind, rows) | {"xaxis": f"x{index}", "yaxis": "y"})
        words = f"{kind}: the middle 50 % and 90 %, at step {step:,}"
        place = [(index - 1) * share + (0.02 if index > 1 else 0), index * share]
        layout[f"xaxis{index}"] = across | {"domain": place, "title": axis_title(words)}
    layout["yaxis"] = {
        **{"autorange": "reversed", "tickfont": {"size": 10, "color": FAINT}},
        **{"gridcolor": "#eceff3", "zeroline": False},
        **{"tickmode": "array", "tickvals": list(range(len(names)))},
        "ticktext": [name if len(name) <= 30 else f"...{name[-27:]}" for name in names],
    }
    layout["margin"] |= {"l": 190, "t": 18}
    layout["hovermode"] = "closest"
    height = max(HEIGHT, 80 + 14 * len(names))
    return figure(title, boxes, layout, width=THREE_CELLS, height=height)


def _boxes(kind: str, rows: Mapping[int, Histogram]) -> Message:
    def quantiles(share: float) -> list[float]:
        return short(quantile(histogram, share) for histogram in rows.values())

    return {
        **{"type": "box", "orientation": "h", "name": kind, "showlegend": False},
        # Numbered: of two layers whose names end alike, one would hide the other.
        **{"y": list(rows), "median": quantiles(0.5)},
        **{"q1": quantiles(0.25), "q3": quantiles(0.75)},
        **{"lowerfence": quantiles(0.05), "upperfence": quantiles(0.95)},
        **{"line": {"width": 1, "color": COLOURS[0]}, "fillcolor": "#a9c7e6", "width": 0.7},
    }
