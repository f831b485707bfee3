"""A run on disk: its whole state for going on, and weights in the classic layout for everyone.

    checkpoints/<name>/state_00005000.pt        everything the loop changes, in one dictionary
    checkpoints/<name>/latest_net_G_A.pth ...   the generators to translate with, and the judges
    checkpoints/<name>/<epoch>_net_G_A.pth ...  the same, kept every few epochs

Files hold tensors and plain data only and are read with weights_only=True: no code in them runs.
What is read was written whole: archives carry checksums, which are compared.
"""

import errno
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.data.files.safe_load import Unreadable, load_tensors
from cyclegan.runs.atomic_files import find_states, step_of, write_atomically

DAMAGED = ".damaged"

# The classic implementation names a discriminator after its generator, we after what it judges.
CLASSIC_NAMES = {"G_AB": "G_A", "G_BA": "G_B", "D_A": "D_B", "D_B": "D_A"}

StateDict = Mapping[str, Tensor]


def weights_path(run_dir: Path, epoch: str | int, network: str) -> Path:
    """`network` is one of G_AB, G_BA, D_A, D_B; the file carries its classic name."""
    return run_dir / f"{epoch}_net_{CLASSIC_NAMES[network]}.pth"


def save_weights(
    run_dir: Path, epoch: str | int, networks: Mapping[str, nn.Module | StateDict]
) -> None:
    for name, network in networks.items():
        weights = network.state_dict() if isinstance(network, nn.Module) else network
        state = {key: value.detach().cpu() for key, value in weights.items()}
        _save(state, weights_path(run_dir, epoch, name))


def save_shareable(path: Path, weights: StateDict, about: Mapping[str, str]) -> None:
    """One network's weights as safetensors, with a few words about them that travel along."""
    apart = {key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}
    content = save(apart, metadata=dict(about))
    write_atomically(path, lambda file: file.write(content))


def about_shareable(path: Path) -> dict[str, str]:
    """The words that travel with such a file; raises UserError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}): copy it anew"
        ) from None


def save_state(run_dir: Path, state: Mapping[str, Any], *, step: int, keep: int = 3) -> None:
    """Raises OSError where it cannot be written; the states before it are then all still there."""
    _save(dict(state), run_dir / f"state_{step:08d}.pt")
    drop_states(run_dir, keep=keep)


def drop_states(run_dir: Path, *, keep: int) -> bool:
    """Removes all but the newest; whether there were any to remove."""
    old = find_states(run_dir)[keep:]
    for path in old:
        with suppress(OSError):
            path.unlink()
    return bool(old)


def set_aside(run_dir: Path, *, after: int) -> None:
    """Puts states of later steps out of the way: they are damaged, or of steps that are taken
    again.
    """
    for path in find_states(run_dir):
        if step_of(path) > after:
            path.replace(path.with_name(path.name + DAMAGED))


def load_state(run_dir: Path, *, say: Callable[[str], object] = print) -> dict[str, Any]:
    """The newest state that is whole, on the CPU; `say` is told of those that are not. Raises
    UserError where there is none.
    """
    problems = [f"{run_dir} holds no checkpoint to go on from: start anew without --continue_train"]
    for path in find_states(run_dir):
        try:
            state = _load(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if isinstance(state, dict):
            for problem in problems[1:]:
                say(f"warning: {problem.partition(':')[0]}; going on from {path.name} before it")
            return state
        problems.append(f"{path} holds no state of a run: start anew without --continue_train")
    raise UserError(problems[-1])


def copied(value: Any) -> Any:
    """A captured state that later steps leave alone: tensors on the CPU, each copied once."""
    return _copied(value, {})


def _copied(value: Any, seen: dict[Any, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # The same weights may be in several places.
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if not value.numel():
            return value.detach().to("cpu", copy=True)
        if key not in seen:
            seen[key] = value.detach().to("cpu", copy=True)
        return seen[key]
    if isinstance(value, Mapping):
        return {name: _copied(each, seen) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(each, seen) for each in value)
    return value


def load_weights(path: Path) -> dict[str, Tensor]:
    """One network's weights; raises UserError where the file is missing, damaged or something else.

    Old public files carry running statistics of instance norms; `fit_weights` drops them.
    """
    if not path.is_file():
        raise UserError(_no_weights(path))
    if path.suffix == ".safetensors":
        about_shareable(path)
        return load_file(path)
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
    try:
        return load_tensors(path)
    except Unreadable as error:
        raise UserError(
            f"{path} is damaged or not a checkpoint ({error}): copy it anew, use an earlier "
            "--epoch of test.py, or train anew without --continue_train"
        ) from None


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
