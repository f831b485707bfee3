"""Command lines and files of options."""

from pathlib import Path

import pytest

from cyclegan.config.command_line import train_settings
from cyclegan.config.errors import UserError

DATA = ["--dataroot", "photos"]


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        train_settings([*DATA, *words])
    return str(caught.value)


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path
