"""Checkpoints of a run: its whole state, to continue from, and weights in the classic layout.

    checkpoints/<name>/state_00005000.pt        everything the loop changes, in one dictionary
    checkpoints/<name>/latest_net_G_A.pth ...   the weights of generators and discriminators
    checkpoints/<name>/<epoch>_net_G_A.pth ...  the same, kept every few epochs

Files hold tensors and plain data only and are read with weights_only=True: no code in them runs.
Each is written atomically, and the checksums in it are verified when it is read.
"""

import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.data.files.safe_load import UnreadableTensors, load_tensors
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.folder import find_states, step_of

logger = logging.getLogger(__name__)

# Epoch names besides the numbers. Weights under these are also written as safetensors, to share.
LATEST, BEST = "latest", "best"

# The classic implementation names a discriminator after its generator, we after its images.
CLASSIC_NAMES = {"G_AB": "G_A", "G_BA": "G_B", "D_A": "D_B", "D_B": "D_A"}

StateDict = Mapping[str, Tensor]
State = Mapping[str, Any]
Epochs = Sequence[str | int]


class CheckpointWriter:
    """Copies states and weights at once, and writes the copies in a thread, one save at a time.

    A failed write is logged, and the next save tries again. `step` is the step of the newest state
    on the disk, `longest_seconds` the duration of the longest save. `metadata` goes into the
    safetensors files.
    """

    def __init__(self, folder: Path, *, step: int, keep: int, metadata: Mapping[str, str]) -> None:
        self.folder = folder
        self.keep = keep
        self.metadata = metadata
        self.step = step
        self.longest_seconds = 0.0
        self._problem = ""
        self._thread: Thread | None = None

    def save(
        self, step: int, epochs: Epochs, networks: Mapping[str, nn.Module], state: State
    ) -> None:
        """Saves the networks' weights under each epoch name and, with LATEST, the state.

        Waits for the previous save, and returns as soon as everything is copied.
        """
        self.wait()
        began = time.monotonic()
        weights = {name: network.state_dict() for name, network in networks.items()}
        copy = copy_to_cpu({"weights": weights, "state": state if LATEST in epochs else {}})
        write = partial(self._write_files, step, epochs, copy["weights"], copy["state"])
        # A second Ctrl-C ends the program without waiting for a daemon.
        self._thread = Thread(target=self._write, args=(began, step, write), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until the last save is written, or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Waits for the last save; raises UserError if it failed."""
        self.wait()
        if self._problem:
            raise UserError(f"{self._problem}, then add --continue_train")

    def _write(self, began: float, step: int, write: Callable[[], None]) -> None:
        self._problem = ""
        try:
            try:
                write()
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if not (full and delete_old_states(self.folder, keep=1)):
                    raise
                write()
        except OSError as error:
            self._problem = (
                f"step {step} could not be saved ({error.strerror or error}); what was saved at "
                f"step {self.step} is whole: free space on the disk"
            )
            logger.warning("%s; training goes on and will try again", self._problem)
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)

    def _write_files(
        self, step: int, epochs: Epochs, weights: Mapping[str, StateDict], state: State
    ) -> None:
        if state:
            save_state(self.folder, state, step=step, keep=self.keep)
            self.step = step
        for epoch in epochs:
            save_weights(self.folder, epoch, weights)
            for name in ("G_AB", "G_BA") if epoch in (LATEST, BEST) else ():
                path = weights_path(self.folder, epoch, name).with_suffix(".safetensors")
                about = {"network": name, "step": str(step), **self.metadata}
                save_safetensors(path, weights[name], about)


def save_state(run_dir: Path, state: State, *, step: int, keep: int = 3) -> None:
    """Raises OSError if the write fails; no earlier state is deleted then."""
    _save(dict(state), run_dir / f"state_{step:08d}.pt")
    delete_old_states(run_dir, keep=keep)


def load_state(run_dir: Path) -> dict[str, Any]:
    """Loads the newest undamaged state to the CPU, and warns about each damaged one.

    Raises UserError if there is none.
    """
    problems: list[str] = []
    for path in find_states(run_dir):
        try:
            state = _load(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if isinstance(state, dict):
            for problem in problems:
                what = problem.partition(":")[0]
                logger.warning("%s; going on from %s before it", what, path.name)
            return state
        problems.append(f"{path} holds no state of a run: start anew without --continue_train")
    nothing = f"{run_dir} holds no checkpoint to go on from: start anew without --continue_train"
    raise UserError(problems[-1] if problems else nothing)


def delete_old_states(run_dir: Path, *, keep: int) -> bool:
    """Deletes all but the newest states; returns whether there were any to delete."""
    old = find_states(run_dir)[keep:]
    for path in old:
        with suppress(OSError):
            path.unlink()
    return bool(old)


def set_aside_states(run_dir: Path, *, after: int) -> None:
    """Renames the states of later steps: they are damaged, or the run rolls back before them."""
    for path in find_states(run_dir):
        if step_of(path) > after:
            path.replace(path.with_name(f"{path.name}.damaged"))


def copy_to_cpu(value: Any, copies: dict[Any, Tensor] | None = None) -> Any:
    """Copies nested containers of tensors to the CPU; tensors that share memory are copied once."""
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        # Empty tensors all have the address 0.
        if not value.numel() or key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]
    if isinstance(value, Mapping):
        return {name: copy_to_cpu(each, copies) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copy_to_cpu(each, copies) for each in value)
    return value


def weights_path(run_dir: Path, epoch: str | int, network: str) -> Path:
    """The file of G_AB, G_BA, D_A or D_B, which carries the network's classic name."""
    return run_dir / f"{epoch}_net_{CLASSIC_NAMES[network]}.pth"


def save_weights(
    run_dir: Path, epoch: str | int, networks: Mapping[str, nn.Module | StateDict]
) -> None:
    """Raises OSError if a write fails; the file before it is untouched then."""
    for name, network in networks.items():
        weights = network.state_dict() if isinstance(network, nn.Module) else network
        state = {key: value.detach().cpu() for key, value in weights.items()}
        _save(state, weights_path(run_dir, epoch, name))


def save_safetensors(path: Path, weights: StateDict, metadata: Mapping[str, str]) -> None:
    """Saves the weights of one network to share them."""
    unshared = {key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}
    write_atomically(path, save(unshared, metadata=dict(metadata)))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; raises UserError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        problem = f"{path} is damaged or no safetensors file ({error}): copy it anew"
        raise UserError(problem) from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """One network's weights. Raises UserError if the file is missing, damaged or something else.

    Old public files carry running statistics of instance norms; `fit_weights` drops them.
    """
    if not path.is_file():
        raise UserError(_missing_weights(path))
    if path.suffix == ".safetensors":
        read_metadata(path)
        return load_file(path)
    weights = _load(path)
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(f"{path} holds no weights of one network: give a *_net_G_*.pth")
    # DataParallel prefixes every key.
    return {str(key).removeprefix("module."): value for key, value in weights.items()}


def fit_weights(network: nn.Module, weights: StateDict, *, source: Path) -> None:
    """Loads weights into a network; raises UserError if they belong to another architecture, or
    are not finite.
    """
    stale = {
        f"{name}.{statistic}"
        for name, module in network.named_modules()
        # Batch norm needs its statistics, so the module's type decides, not its name.
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
        for statistic in ("running_mean", "running_var", "num_batches_tracked")
    }
    try:
        network.load_state_dict({key: v for key, v in weights.items() if key not in stale})
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


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except RuntimeError as error:
        # torch's zip writer hides the disk's own error behind one of its own.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(errno.EIO, str(error), str(path)) from None


def _load(path: Path) -> Any:
    try:
        return load_tensors(path)
    except UnreadableTensors as error:
        raise UserError(
            f"{path} is damaged or not a checkpoint ({error}): copy it anew, use an earlier "
            "--epoch of test.py, or train anew without --continue_train"
        ) from None


def _missing_weights(path: Path) -> str:
    _, separator, network = path.name.partition("_net_")
    ending = separator + network
    names = [found.name for found in path.parent.glob("*_net_*.pth")]
    epochs = sorted(name.removesuffix(ending) for name in names if name.endswith(ending))
    if network and epochs:
        return f"{path} is not there: --epoch may be {', '.join(epochs)}"
    return f"{path} is not there: check the path or --name, or train first"
