"""A run on disk: its whole state for going on, and weights in the classic layout for everyone.

    checkpoints/<name>/state.pt                 everything the loop changes, in one dictionary
    checkpoints/<name>/latest_net_G_A.pth ...   the generators to translate with, and the judges
    checkpoints/<name>/<epoch>_net_G_A.pth ...  the same, kept every few epochs

Files hold tensors and plain data only and are read with weights_only=True: no code in them runs.
"""

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from cyclegan.errors import UserError

STATE_FILE = "state.pt"

# The classic implementation names a discriminator after its generator, we after what it judges.
CLASSIC_NAMES = {"G_AB": "G_A", "G_BA": "G_B", "D_A": "D_B", "D_B": "D_A"}

StateDict = Mapping[str, Tensor]

# What torch.load raises for a file that is cut short, damaged, or no such file at all.
_DAMAGE = (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


def weights_path(run_dir: Path, epoch: str | int, network: str) -> Path:
    """`network` is one of G_AB, G_BA, D_A, D_B; the file carries its classic name."""
    return run_dir / f"{epoch}_net_{CLASSIC_NAMES[network]}.pth"


def save_weights(run_dir: Path, epoch: str | int, networks: Mapping[str, nn.Module]) -> None:
    for name, network in networks.items():
        state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
        _save(state, weights_path(run_dir, epoch, name))


def save_state(run_dir: Path, state: Mapping[str, Any]) -> None:
    _save(dict(state), run_dir / STATE_FILE)


def load_state(run_dir: Path) -> dict[str, Any]:
    """The state of a run on the CPU; raises UserError where there is none, or it is damaged."""
    path = run_dir / STATE_FILE
    if not path.is_file():
        raise UserError(
            f"{run_dir} holds no checkpoint to go on from (no {STATE_FILE}): "
            "start anew without --continue_train"
        )
    state: dict[str, Any] = _load(path)
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """One network's weights; raises UserError where the file is missing, damaged or something else.

    Old public files carry running statistics of instance norms; `fit_weights` drops them.
    """
    if not path.is_file():
        raise UserError(_no_weights(path))
    weights = _load(path)
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(f"{path} holds no weights of one network: give a *_net_G_*.pth")
    # Saved from several GPUs, every key begins with the wrapper's name.
    return {str(key).removeprefix("module."): value for key, value in weights.items()}


def fit_weights(network: nn.Module, weights: StateDict, *, source: Path) -> None:
    """Loads weights into a network; raises UserError where they belong to another architecture."""
    stale = _instance_norm_statistics(network)
    kept = {key: value for key, value in weights.items() if key not in stale}
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{source} does not fit this network: {first}") from None


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """The old file or the new one, whole, whatever happens in between.

    Raises OSError where the disk is full; the old file is then untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except RuntimeError as error:
        # torch's zip writer turns a full disk into a RuntimeError of its own.
        raise OSError(f"{path} could not be written: {error}") from error


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        first = str(error).strip().partition("\n")[0][:120]
        raise UserError(f"{path} is damaged or not a checkpoint: {first}") from None


def _no_weights(path: Path) -> str:
    _, _, network = path.name.partition("_net_")
    kept = sorted(found.name.split("_net_")[0] for found in path.parent.glob(f"*_net_{network}"))
    if network and kept:
        return f"{path} is not there: --epoch may be {', '.join(kept)}"
    return f"{path} is not there: check --name, or train first"


def _instance_norm_statistics(network: nn.Module) -> set[str]:
    # By the type of the module, never by the name: batch norm needs its statistics.
    return {
        f"{name}.{statistic}"
        for name, module in network.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
        for statistic in ("running_mean", "running_var", "num_batches_tracked")
    }
