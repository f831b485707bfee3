"""What the live page says in words: a run's health, and the images that it learns worst."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape

from cyclegan.data.files.jpeg import jpeg
from cyclegan.runs.artifacts import Alarm, HardImage, HardImages, Health

# Bytes of a thumbnail, and how many of a domain: as text, all together stay under 300 kB.
THUMBNAIL_BYTES, MOST_IMAGES = 6_000, 16

# The page makes everything thin and blue.
_PAGE = "padding:10px 14px;color:#1f2937;font:400 13px/1.45 'Open Sans',Helvetica,Arial,sans-serif"
_BOX = "border-radius:4px;padding:8px 12px;margin-bottom:10px;font-weight:400"
_ALARM = f"{_BOX};background:#fdecea;border-left:4px solid #c62828"
_FINE = f"{_BOX};background:#e8f5e9;border-left:4px solid #2e7d32"
_FAINT = "color:#6b7280;font-weight:400"


def notice(words: str) -> str:
    return f'<div style="{_PAGE}"><span style="{_FAINT}">{escape(words)}</span></div>'


def health(step: int, health: Health) -> str:
    """First what is wrong, each in a box of its own, and then a line for all that is watched."""
    fine = f'<div class="no-alarms" style="{_FINE}"><b style="font-weight:600">no alarms</b></div>'
    alarms = "".join(map(_alarm, health.alarms)) or fine
    lines = "".join(f'<li style="font-weight:400">{escape(line)}</li>' for line in health.lines)
    listed = f'<ul style="padding-left:16px;margin:0 0 6px">{lines}</ul>'
    when = f'<div style="{_FAINT}">at step {step:,}</div>'
    return f'<div style="{_PAGE}">{alarms}{listed}{when}</div>'


def hard_images(step: int, images: HardImages) -> str:
    """Of each domain the images with the largest cycle errors; one that is clicked opens."""
    parts = [
        f'<div style="font-weight:600;margin-bottom:6px">learned worst of {escape(domain)}</div>'
        f'<div style="margin-bottom:12px">{_list(worst)}</div>'
        for domain, worst in sorted(images.worst.items())
    ]
    when = f'<div style="{_FAINT}">mean of |rec - real| in levels of 255, at step {step:,}</div>'
    return f'<div style="{_PAGE}">{_STYLE}{"".join(parts)}{when}</div>'


# A click shows the same picture larger, without sending it twice.
_STYLE = """<style>
.hard { display: inline-block; vertical-align: top; margin: 0 8px 8px 0; cursor: pointer; }
.hard summary { display: block; list-style: none; font-weight: 400; text-align: center; }
.hard summary::-webkit-details-marker { display: none; }
.hard img { display: block; height: 84px; border-radius: 3px; image-rendering: auto; }
.hard[open] img { height: 256px; }
.hard div { max-width: 340px; overflow-wrap: anywhere; font-weight: 400; }
</style>"""


def _alarm(alarm: Alarm) -> str:
    name, where, saw, means, remedy = map(
        escape, (alarm.name, alarm.where, alarm.saw, alarm.means, alarm.remedy)
    )
    return (
        f'<div class="alarm" style="{_ALARM}">'
        f'<b style="font-weight:600;color:#b71c1c">{name}, {where}</b>'
        f'<div style="font-weight:400">{saw}</div>'
        f'<div style="font-weight:400">{means}</div>'
        f'<div style="font-weight:400"><b style="font-weight:600">Try:</b> {remedy}</div></div>'
    )


def _list(worst: Iterable[HardImage]) -> str:
    return "".join(map(_hard_image, list(worst)[:MOST_IMAGES]))


def _hard_image(image: HardImage) -> str:
    data = b64encode(jpeg(image.thumbnail, most=THUMBNAIL_BYTES)).decode()
    name = escape(image.file)
    return (
        f'<details class="hard"><summary title="{name}">'
        f'<img alt="{name}" src="data:image/jpeg;base64,{data}">{image.error:.1f}</summary>'
        f"<div>{name}</div></details>"
    )
