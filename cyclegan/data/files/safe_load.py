"""Files of tensors, of whoever: read without running or unpacking anything."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


class Unreadable(ValueError):
    """Why a file is not read, in a few words."""


def load_tensors(path: Path) -> Any:
    """What torch.save wrote, on the CPU: tensors and plain data alone, and all of them as written.

    Raises Unreadable for anything else, and OSError where there is no such file.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        # Of an odd file torch says much; one line is enough.
        warnings.simplefilter("ignore")
        try:
            _check_archive(path)
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise Unreadable("it holds more than tensors and plain data") from None
        except Unreadable:
            raise
        # Damage makes torch raise anything: IndexError, AssertionError, struct.error, OSError ...
        except Exception as error:
            raise Unreadable(type(error).__name__) from None


def _check_archive(path: Path) -> None:
    """Refuses one that unpacks to more than it is, or whose content is not what was written."""
    if not zipfile.is_zipfile(path):
        # The format of torch before 1.6, which has no checksums.
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise Unreadable("it unpacks to more than its size")
        if damaged := archive.testzip():
            raise Unreadable(f"checksum of {damaged}")
