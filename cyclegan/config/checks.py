"""Checks of the options of parts: each returns the value, or raises a ValueError that names it."""

import math
import sys
from collections.abc import Iterable
from typing import Any


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name}={value} must be a whole number, at least {least}{upper}")
    return int(value)


def check_number(name: str, value: Any, *, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number from `least` to `most`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # An integer may be larger than any float.
    if not number or not least <= value <= min(most, sys.float_info.max):
        upper = f"to {most:g}" if most < math.inf else "up"
        raise ValueError(f"{name}={value} must be a number from {least:g} {upper}")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value} must be true or false")
    return value


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    if value not in (known := list(choices)):
        raise ValueError(f"{name}={value} is unknown; known: {', '.join(known)}")
    return str(value)
