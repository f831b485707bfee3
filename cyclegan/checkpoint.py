"""A run on disk: its whole state for going on, and weights in the classic layout for everyone.

    checkpoints/<name>/state.pt                 everything the loop changes, in one dictionary
    checkpoints/<name>/latest_net_G_A.pth ...   the generators to translate with, and the judges
    checkpoints/<name>/<epoch>_net_G_A.pth ...  the same, kept every few epochs

Files hold tensors and plain data only and are read with weights_only=True: no code in them runs.
"""

import errno
import os
import pickle
import warnings
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
    state = _load(path)
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no state of a run: start anew without --continue_train")
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
    """Loads weights into a network; raises UserError where they belong to another architecture, or
    are not finite.
    """
    stale = _instance_norm_statistics(network)
    kept = {key: value for key, value in weights.items() if key not in stale}
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{source} does not fit this network ({first[:200]}): "
            "it needs the generator it was trained with"
        ) from None
    broken = [key for key, value in network.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"{source} holds weights that are not finite ({broken[0]}): use an earlier --epoch"
        )


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
        # torch's zip writer covers the disk's own error with one of its own.
        cause = error.__context__
        raise (
            cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error), str(path))
        ) from None


def _load(path: Path) -> Any:
    with path.open("rb") as file, warnings.catch_warnings():
        # Of an odd file torch says much; one line is enough.
        warnings.simplefilter("ignore")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            reason = "it holds more than tensors and plain data"
        # Damage makes torch raise anything: IndexError, AssertionError, struct.error, OSError ...
        except Exception as error:
            reason = type(error).__name__
    raise UserError(
        f"{path} is damaged or not a checkpoint ({reason}): "
        "copy it anew, use an earlier --epoch of test.py, or train anew without --continue_train"
    )


def _no_weights(path: Path) -> str:
    _, separator, network = path.name.partition("_net_")
    ending = separator + network
    there = [found.name for found in path.parent.glob("*_net_*.pth")]
    kept = sorted(name.removesuffix(ending) for name in there if name.endswith(ending))
    if network and kept:
        return f"{path} is not there: --epoch may be {', '.join(kept)}"
    return f"{path} is not there: check the path or --name, or train first"


def _instance_norm_statistics(network: nn.Module) -> set[str]:
    # By the type of the module, never by the name: batch norm needs its statistics.
    return {
        f"{name}.{statistic}"
        for name, module in network.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
        for statistic in ("running_mean", "running_var", "num_batches_tracked")
    }
