"""The doctor's findings as text for readers and as one JSON object for programs."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cyclegan.config.errors import printable
from cyclegan.tools.doctor.data_inspection import InspectedFolder, Inspection
from cyclegan.tools.doctor.findings import KINDS, Finding
from cyclegan.tools.doctor.image_inspection import Colors

SCALARS = ("brightness", "contrast", "saturation")

# The text names this many files of a kind; --json names all.
MAX_NAMED = 5


def folder_statistics(folder: InspectedFolder) -> dict[str, Any]:
    """Sizes and colours (8-bit values) of the usable images; every image counts the same."""
    if not (images := folder.usable):
        return {}
    sizes = sorted((image.size for image in images), key=math.prod)
    columns = zip(*(image.colors for image in images), strict=True)
    colors = Colors(*(np.mean(column, axis=0) for column in columns))
    return {
        "typical_size": [int(side) for side in np.median(sizes, axis=0)],
        "smallest_size": list(sizes[0]),
        "largest_size": list(sizes[-1]),
        "mean": colors.mean.round(2).tolist(),
        "deviation": np.sqrt(np.maximum(colors.square - colors.mean**2, 0.0)).round(2).tolist(),
        **{name: round(float(getattr(colors, name)), 2) for name in SCALARS},
    }


def to_json(inspection: Inspection) -> dict[str, Any]:
    """All findings and statistics as plain data, with paths relative to the data folder."""
    return {
        "ok": inspection.ok,
        "dataroot": None if inspection.root is None else str(inspection.root),
        "parts": {
            folder.name: {
                "folder": str(folder.path),
                "num_images": folder.num_images,
                "num_usable": len(folder.usable),
                **folder_statistics(folder),
            }
            for folder in inspection.folders
        },
        "findings": [
            {
                "kind": kind,
                "severity": KINDS[kind].severity,
                "means": KINDS[kind].meaning,
                "remedy": KINDS[kind].remedy or "nothing",
                "count": len(findings),
                "found": [
                    {"files": [inspection.name(file) for file in one.files], "detail": one.detail}
                    for one in findings
                ],
            }
            for kind, findings in inspection.findings.items()
        ],
    }


def print_report(inspection: Inspection, console: Console) -> None:
    """Prints a table of the folders, a paragraph for each kind of finding, and the verdict."""
    console.print(_table(inspection.folders))
    for kind, findings in inspection.findings.items():
        for line in _paragraph(inspection, kind, findings):
            console.print(line, markup=False)
    console.print(verdict(inspection), markup=False)


def verdict(inspection: Inspection) -> str:
    """The numbers of errors and warnings in a few words."""
    every = [finding for findings in inspection.findings.values() for finding in findings]
    counts = Counter(KINDS[finding.kind].severity for finding in every)
    words = [f"{n} {name}{'s' * (n > 1)}" for name in ("error", "warning") if (n := counts[name])]
    return f"to repair: {', '.join(words)}" if words else "nothing to repair"


def _paragraph(inspection: Inspection, kind: str, findings: Sequence[Finding]) -> list[str]:
    severity, title, meaning, remedy = KINDS[kind]
    lines = [f"{severity}: {len(findings)} {title}: {meaning}"]
    lines += [f"  do: {remedy}"] if remedy else []
    for one in findings[:MAX_NAMED]:
        names = [printable(inspection.name(file)) for file in one.files[:MAX_NAMED]]
        hidden = len(one.files) - len(names)
        more = f" and {hidden} more" if hidden else ""
        lines.append(f"  {' = '.join(names)}{more} ({printable(one.detail)})")
    return lines + [f"  and {len(findings) - MAX_NAMED} more"] * (len(findings) > MAX_NAMED)


def _table(folders: Sequence[InspectedFolder]) -> Table:
    table = Table("8-bit values")
    for folder in folders:
        table.add_column(folder.name, justify="right")
    statistics = [folder_statistics(folder) for folder in folders]

    def add_row(title: str, template: str) -> None:
        table.add_row(title, *(template.format(**one) if one else "" for one in statistics))

    table.add_row("images", *(f"{len(folder.usable)} of {folder.num_images}" for folder in folders))
    for name in ("typical", "smallest", "largest"):
        add_row(f"{name} size", f"{{{name}_size[0]}}x{{{name}_size[1]}}")
    for channel, name in enumerate(("red", "green", "blue")):
        values = f"{{mean[{channel}]:.0f}}, {{deviation[{channel}]:.0f}}"
        add_row(f"{name}: mean, deviation", values)
    for name in SCALARS:
        add_row(name, f"{{{name}:.0f}}")
    return table
