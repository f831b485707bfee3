"""Loads tensors from untrusted files: executes no code and decompresses nothing."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


class UnreadableTensors(ValueError):
    """The file was not loaded; the message is the reason in a few words."""


def load_tensors(path: Path) -> Any:
    """The content of a file of torch.save, on the CPU. Raises UnreadableTensors if it holds more
    than tensors and plain data or is damaged, and OSError if it does not exist.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _check_archive(path)
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise UnreadableTensors("it holds more than tensors and plain data") from None
        except UnreadableTensors:
            raise
        # torch.load may raise any exception on a damaged file, such as IndexError or struct.error.
        except Exception as error:
            raise UnreadableTensors(type(error).__name__) from None


def _check_archive(path: Path) -> None:
    """Refuses a compressed archive, and one whose checksums do not match."""
    if not zipfile.is_zipfile(path):
        # The format before torch 1.6 has no checksums.
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise UnreadableTensors("it unpacks to more than its size")
        if damaged := archive.testzip():
            raise UnreadableTensors(f"checksum of {damaged}")
