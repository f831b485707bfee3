"""What the doctor found, as text for readers and as one JSON object for programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cyclegan.config.errors import printable
from cyclegan.tools.doctor.findings import KINDS, Finding
from cyclegan.tools.doctor.inspection import Diagnosis, Part

# How many of a kind are named; --json names all.
NAMED = 5


def statistics(part: Part) -> dict[str, Any]:
    """Size and colour of a part's usable images, each counting the same, in levels of 255."""
    looks = [look for look in part.usable if look.size and look.figures]
    figures = [look.figures for look in looks if look.figures]
    sizes = [look.size for look in looks if look.size]
    if not figures:
        return {}
    mean = np.mean([one.mean for one in figures], axis=0)
    square = np.mean([one.square for one in figures], axis=0)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return {
        "typical_size": [int(side) for side in np.median(sizes, axis=0)],
        "smallest_size": list(by_area[0]),
        "largest_size": list(by_area[-1]),
        "mean": _rounded(mean),
        "deviation": _rounded(np.sqrt(np.maximum(square - mean**2, 0.0))),
        "brightness": _rounded(np.mean([one.brightness for one in figures])),
        "contrast": _rounded(np.mean([one.contrast for one in figures])),
        "saturation": _rounded(np.mean([one.saturation for one in figures])),
    }


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """Everything, with the files named relative to the data folder."""
    return {
        "ok": found.ok,
        "dataroot": None if found.root is None else str(found.root),
        "parts": {
            part.name: {
                "folder": str(part.folder),
                "num_images": part.num_images,
                "num_usable": len(part.usable),
                **statistics(part),
            }
            for part in found.parts
        },
        "findings": [
            {
                "kind": kind,
                "severity": KINDS[kind].severity,
                "means": KINDS[kind].means,
                "remedy": KINDS[kind].remedy,
                "count": len(findings),
                "found": [
                    {"files": [found.name(file) for file in one.files], "detail": one.detail}
                    for one in findings
                ],
            }
            for kind, findings in found.by_kind().items()
        ],
    }


def show(found: Diagnosis, console: Console) -> None:
    """The table of all parts, then a paragraph for each kind of finding, then the sum of it."""
    console.print(_table(found.parts))
    for kind, findings in found.by_kind().items():
        for line in _paragraph(found, kind, findings):
            console.print(line, markup=False)
    console.print(verdict(found), markup=False)


def verdict(found: Diagnosis) -> str:
    """What there is to mend, in a few words."""
    severities = [KINDS[finding.kind].severity for finding in found.findings]
    counts = {name: severities.count(name) for name in ("error", "warning")}
    worth = [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n]
    return f"to mend: {', '.join(worth)}" if worth else "nothing to mend"


def _paragraph(found: Diagnosis, kind: str, findings: Sequence[Finding]) -> list[str]:
    about = KINDS[kind]
    head = f"{about.severity}: {len(findings)} {about.title}: {about.means}"
    lines = [head] if about.remedy == "nothing" else [head, f"  do: {about.remedy}"]
    for one in findings[:NAMED]:
        names = [printable(found.name(file)) for file in one.files[:NAMED]]
        more = f" and {len(one.files) - NAMED} more" if len(one.files) > NAMED else ""
        lines.append(f"  {' = '.join(names)}{more} ({printable(one.detail)})")
    if len(findings) > NAMED:
        lines.append(f"  and {len(findings) - NAMED} more")
    return lines


def _table(parts: Sequence[Part]) -> Table:
    table = Table("in levels of 255")
    for part in parts:
        table.add_column(part.name, justify="right")
    every = [statistics(part) for part in parts]
    table.add_row("images", *(f"{len(part.usable)} of {part.num_images}" for part in parts))
    for row, key in (("typical", "typical"), ("smallest", "smallest"), ("largest", "largest")):
        table.add_row(f"{row} size", *(_size(one.get(f"{key}_size")) for one in every))
    for channel, name in enumerate(("red", "green", "blue")):
        cells = (
            f"{one['mean'][channel]:.0f}, {one['deviation'][channel]:.0f}" if one else ""
            for one in every
        )
        table.add_row(f"{name}: mean, deviation", *cells)
    for name in ("brightness", "contrast", "saturation"):
        table.add_row(name, *(f"{one[name]:.0f}" if one else "" for one in every))
    return table


def _size(size: Sequence[int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""


def _rounded(value: Any) -> Any:
    rounded = np.round(value, 2)
    return rounded.tolist()
