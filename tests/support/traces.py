"""Records fourteen short training runs, so that a change of the code can show that it changed no
number: PYTHONPATH=tests python -m support.traces [NAME ...]

Each run is the real train.py on the CPU, for 12 steps from seed 0, with one thread. Its recording,
recorded/traces/NAME.json, holds every loss of every step at full precision, the measurements of
the test images, the SHA-256 of each tensor of the saved state, and the state's other values beside
them. It leaves out times and sizes of memory, and is read from the run's files alone.

A recording is equal byte for byte only on a machine like that which made it (`fingerprint`). On any
other, record the commit before into a folder of its own, and this one into another:

    PYTHONPATH=tests python -m support.traces --into FOLDER && diff -r FOLDER OTHER
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from support.forked_script import run_script

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).parents[1] / "recorded" / "traces"

# What a clock decides, or the machine's memory.
TIMES = ("images_per_second", "data_wait", "data_share", "memory")

Options = dict[str, Any]

COMMON: Options = {
    **{"device": "cpu", "num_threads": 0, "compile": "off", "precision": "fp32", "seed": 0},
    **{"steps": 12, "print_every": 1, "monitor": "none"},
}
SMALL: Options = {
    **{"preset": "classic", "generator": "resnet(blocks=1)", "discriminator": "patch(layers=1)"},
    **{"ngf": 4, "ndf": 4, "load_size": 40, "crop_size": 32, "pool_size": 3},
}
DROPOUT = {"generator": "resnet(blocks=2, dropout=true)"}
WATCHED = {"monitor": "files", "preview_every": 5}

# What each run has besides COMMON. An epoch has seven images: batches of 2, 3 or 4 leave a short
# last one.
RUNS: dict[str, Options] = {
    "classic": {
        **{"preset": "classic", "ngf": 8, "ndf": 8, "load_size": 72, "crop_size": 64},
        **{"pool_size": 3, "precision": "bf16", **WATCHED},
        # Two epochs of six images.
        **{"steps": None, "n_epochs": 1, "n_epochs_decay": 1, "max_dataset_size": 6},
    },
    "quick": {
        **{"preset": "quick", "ngf": 8, "ndf": 8, "crop_size": 32, "pool_size": 3, **WATCHED},
    },
    "sr": {"preset": "sr", "ngf": 8, "ndf": 8, "crop_size": 32, "evaluate_every": 4},
    "srcnn": {"preset": "srcnn", "crop_size": 32, "beta1": 0.8},
    "accumulate": {
        **{**SMALL, **DROPOUT, "accumulate": 2, "batch_size": 2, "warmup_steps": 3},
        **{"optimizer": "adam(eps=1e-6, weight_decay=1e-3)", "lr_D": 1e-4},
    },
    "ema": {
        **{**SMALL, "ema": 0.9, "batch_size": 3, "generator": "resnet(blocks=1, norm=batch)"},
        **{"discriminator": "patch(layers=2, norm=batch)", "schedule": "cosine(lowest=0.1)"},
        **{"optimizer": "adamw(weight_decay=0.1)", "optimizer_D": "rmsprop(momentum=0.5)"},
    },
    "wgan": {
        **{**SMALL, "adversarial": "wgan", "penalty": "10*gradient_penalty(every=1)"},
        **{"optimizer": "sgd(momentum=0.9)", "optimizer_D": "adam", "beta1": 0.0, "lr": 1e-3},
    },
    "relativistic": {
        **{**SMALL, "adversarial": "relativistic", "penalty": "1*r1(every=2) + 0.5*r2(every=3)"},
        **{"discriminator": "multiscale(layers=1, scales=2)", "batch_size": 2},
        **{"schedule": "constant"},
    },
    "patch_nce": {
        **{**SMALL, "nce": "1*patch_nce(dual=true, patches=16, channels=8)", "cycle": "none"},
        **{"content": "2*color(size=2)", "identity_A": "1*torch.nn.HuberLoss", "batch_size": 2},
    },
    "diffaugment": {
        **{**SMALL, "diffaugment": "translation + cutout + color", "adversarial": "hinge"},
        **{"generator": "unet(layers=4)", "discriminator": "unet", "batch_size": 2},
    },
    "decay_to": {
        **{**SMALL, "cycle": "10*l1(decay_to=0, over=0.5) + 1*ssim(window=7)"},
        **{"pseudo_pair": "2*l2", "adversarial_A": "0.5*vanilla", "direction": "BtoA"},
        **{"serial_batches": True, "no_flip": True},
        **{"schedule": "plateau(patience=1)", "evaluate_every": 3},
    },
    "batch_head": {
        **{**SMALL, "discriminator": "batch_head(layers=1)", "penalty_B": "1*zero_centered"},
    },
    "clip_grad": {
        **{**SMALL, "clip_grad": 0.5, "checkpoint_activations": True, "batch_size": 2},
        **{"generator_BA": "attention(blocks=1, heads=2)", "init_type": "xavier", "pool_size": 0},
    },
    "torchrun": {
        **{**SMALL, **DROPOUT, "batch_size": 2, "accumulate": 2, "ema": 0.5},
        **{"optimizer_D": "adagrad"},
    },
}
# How many processes take part, where not one.
PROCESSES = {"torchrun": 2}
# Seconds.
LONGEST = 300


def fingerprint() -> dict[str, Any]:
    """All that may change the last digits of a number: which instructions there are, how large the
    pieces are that fit a cache, and the versions of what computes.
    """
    told = torch.cpu.get_capabilities()
    return {
        "cpu": told.get("cpu_name") or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_instructions": " ".join(sorted(name for name, has in told.items() if has is True)),
        "cpu_caches": [told.get("l1d_cache_size"), told.get("l2_cache_size")],
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
    }


def record(name: str, folder: Path) -> str:
    """Makes the run in an empty folder; gives its recording as the text of a file."""
    make_images(folder / "data")
    paths = {"dataroot": folder / "data", "checkpoints_dir": folder, "name": "run"}
    train({**paths, **COMMON, **RUNS[name]}, folder=folder, processes=PROCESSES.get(name, 1))
    run = folder / "run"
    state = torch.load(max(run.glob("state_*.pt")), weights_only=True)
    points = [(step, _without_times(values)) for step, values in state.pop("history")]
    recording = {
        "machine": fingerprint(),
        "options": {**COMMON, **RUNS[name]},
        "losses": [{"step": step, **values} for step, values in points],
        "evaluation": json.loads((run / "evaluation.json").read_text()),
        "state": dict(sorted(flat(state))),
        "weights": {path.name: _weights(path) for path in sorted(run.glob("latest_net_*.pth"))},
    }
    return json.dumps(recording, indent=1) + "\n"


def train(options: Options, *, folder: Path, processes: int = 1) -> None:
    """Runs train.py in a process of its own, or by torchrun in several, with one thread each."""
    words = [_word(name, value) for name, value in options.items() if value is not None]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [str(ROOT / "train.py"), *words]
    if processes == 1:
        done = run_script(words, cwd=folder, environment=environment, timeout=LONGEST)
    else:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        # After the two lines torchrun does not take our options for its own.
        command += [f"--nproc-per-node={processes}", "--", *words]
        done = subprocess.run(
            command, env=environment, timeout=LONGEST, cwd=folder, capture_output=True, text=True
        )
    if done.returncode != 0:
        raise RuntimeError(f"train.py ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested data by keys such as `model/generators.G_AB.model.1.weight`. A tensor is
    given as its type, shape and SHA-256; a long row of numbers as its SHA-256; the rest as it is.
    """
    inside = value
    if isinstance(value, list | tuple):
        if all(isinstance(each, int | float | str | None) for each in value):
            yield key, value if len(value) <= 8 else _digest(repr(tuple(value)).encode())
            return
        inside = dict(enumerate(value))
    if isinstance(inside, Mapping) and inside:
        for name, each in inside.items():
            yield from flat(each, f"{key}/{name}" if key else str(name))
    elif isinstance(value, torch.Tensor):
        content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        yield key, f"{kind} {_digest(content)}"
    else:
        yield key, value


def make_images(folder: Path) -> None:
    """Both domains, in whole numbers: the same on every machine."""
    sizes = {"trainA": 5, "trainB": 7, "testA": 2, "testB": 2}
    for seed, (part, count) in enumerate(sizes.items()):
        random = np.random.default_rng(seed)
        (folder / part).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(_picture(random)).save(folder / part / f"{index}.png")


def _picture(random: np.random.Generator, height: int = 44, width: int = 52) -> np.ndarray:
    """Soft shapes in colour, with grain: numbers at the corners of 13 x 11 cells, and between them
    straight lines.
    """
    corners = random.integers(8, 248, (5, 5, 3))
    rows, columns = np.arange(height), np.arange(width)
    (top, down), (left, right) = np.divmod(rows, 11), np.divmod(columns, 13)
    down, right = down[:, None, None], right[None, :, None]
    along = corners[:, left] * (13 - right) + corners[:, left + 1] * right
    soft = (along[top] * (11 - down) + along[top + 1] * down) // (11 * 13)
    return (soft + random.integers(-8, 9, soft.shape)).astype(np.uint8)


@cache
def _word(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def _without_times(values: Mapping[str, float]) -> dict[str, float]:
    return {name: values[name] for name in sorted(values) if name not in TIMES}


def _weights(path: Path) -> str:
    """The digest of all keys and tensors in a network's file."""
    return _digest(repr(sorted(flat(torch.load(path, weights_only=True)))).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--into", type=Path, default=RECORDED, metavar="FOLDER")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if unknown := set(chosen.names) - RUNS.keys():
        parser.error(f"no such run: {', '.join(sorted(unknown))}; known: {', '.join(RUNS)}")
    chosen.into.mkdir(parents=True, exist_ok=True)
    for name in chosen.names or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            text = record(name, Path(folder))
        (chosen.into / f"{name}.json").write_text(text)
        sys.stdout.write(f"{chosen.into / name}.json\n")


if __name__ == "__main__":
    main()
