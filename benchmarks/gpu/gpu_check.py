"""Measures on one GPU what only a GPU can show: python benchmarks/gpu/gpu_check.py WHAT --out FILE

steps     milliseconds a step, memory and launches of several variants, one after another
compiled  one compiled variant: seconds to compile, then as above, once all siblings have compiled
profile   where the GPU's time of one variant's step goes, by kind of kernel
trust     a recorded step after a return to a saved state; a step that cannot be recorded

Each writes one line of JSON. README.md beside this file says what is in it.
"""

import argparse
import fcntl
import gc
import json
import sys
import time
from pathlib import Path

import torch

# The plain step and what benchmarks share are one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import synchronize  # type: ignore[import-not-found]
from gpu_profile import profile
from gpu_timing import measure
from gpu_trust import trust
from gpu_variants import (
    AGAIN,
    BF16,
    CLASSIC_WIDTH,
    VARIANTS,
    Figures,
    Options,
    Step,
    build_variant,
)

from cyclegan.training.resources.execution_plan import configure_torch

# Three steps before a graph is recorded, one that is, and two that replay it.
WARM_UP = 6
LONGEST_ERROR = 300


def steps(options: Options) -> Figures:
    """Uncompiled variants in turn; an error of one is told in its place."""
    configure_torch(BF16, deterministic=False, fixed_size=True)
    figures: Figures = {}
    for variant in options.variants:
        try:
            figures[variant] = _steps_of(variant, options)
        # Out of memory, for one: the others are of use by themselves.
        except Exception as error:
            figures[variant] = {"error": f"{type(error).__name__}: {error}"[:LONGEST_ERROR]}
        gc.collect()
        if options.on_cuda:
            torch.cuda.empty_cache()
        print(options.size, options.batch, variant, figures[variant], flush=True)
    return figures


def compiled(options: Options) -> Figures:
    """Siblings compile at once and are timed one after another, once all are ready."""
    configure_torch(BF16, deterministic=False, fixed_size=True)
    (variant,) = options.variants
    step, said = build_variant(variant, options)
    began = time.perf_counter()
    step()
    synchronize(options.device)
    first = time.perf_counter() - began
    _repeat(step, WARM_UP, options)
    _wait_for_siblings(options)
    with options.ready.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        figures = measure(step, options)
    return {variant: {"first_step_s": round(first, 1), **figures, "said": said}}


def profiled(options: Options) -> Figures:
    configure_torch(BF16, deterministic=False, fixed_size=True)
    (variant,) = options.variants
    step, said = build_variant(variant, options)
    _repeat(step, 1 + WARM_UP, options)
    return {"variant": variant, "said": said, **profile(step, options)}


CHECKS = {"steps": steps, "compiled": compiled, "profile": profiled, "trust": trust}


def _steps_of(variant: str, options: Options) -> Figures:
    """A function of its own, so that a variant's memory is free for the next."""
    began = time.perf_counter()
    step, said = build_variant(variant.removesuffix(AGAIN), options)
    _repeat(step, WARM_UP if options.on_cuda else 1, options)
    ready = round(time.perf_counter() - began, 1)
    return {"ready_s": ready, **measure(step, options), "said": said}


def _repeat(step: Step, count: int, options: Options) -> None:
    for _ in range(count):
        step()
    synchronize(options.device)


def _wait_for_siblings(options: Options) -> None:
    """Until each has left its file in the same folder, or there is no more time."""
    options.ready.mkdir(parents=True, exist_ok=True)
    (variant,) = options.variants
    (options.ready / f"{variant}-{options.size}-{options.batch}").touch()
    while len(list(options.ready.iterdir())) < options.siblings and time.time() < options.until:
        time.sleep(0.2)


def parse(words: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", choices=CHECKS)
    add("--out", type=Path, required=True, help="the file for the line of JSON")
    add("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a trial of the command")
    add("--size", type=int, default=256, help="side of the images")
    add("--batch", type=int, default=1)
    add("--width", type=int, default=CLASSIC_WIDTH, help="channels; other than classic: for trials")
    add("--variants", type=_variants, default="plain,eager,graph,graph_first,plain_again")
    add("--rounds", type=int, default=3)
    add("--count", type=int, default=20, help="steps in a round")
    add("--siblings", type=int, default=1, help="commands that compile at once, this one included")
    add("--ready", type=Path, default=Path("/tmp/gpu_check/ready"), help="their common folder")
    add("--until", type=float, default=0.0, help="wait for them no longer (seconds since 1970)")
    found = vars(parser.parse_args(words))
    options = Options(**{**found, "device": torch.device(found["device"])})
    if options.what in ("compiled", "profile") and len(options.variants) != 1:
        parser.error(f"{options.what} measures one of the --variants, not {len(options.variants)}")
    if options.what == "profile" and not options.on_cuda:
        parser.error("profile looks at a GPU: leave --device cpu out")
    return options


def _variants(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name.removesuffix(AGAIN) not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise argparse.ArgumentTypeError(f"unknown variant {name}; known: {known}")
    return names


def main() -> None:
    options = parse(sys.argv[1:])
    whole: Figures = {
        "what": options.what,
        "size": options.size,
        "batch": options.batch,
        "gpu": torch.cuda.get_device_name() if options.on_cuda else "none",
        "torch": torch.__version__,
    }
    if options.width != CLASSIC_WIDTH and options.what != "trust":
        whole["width"] = options.width
    whole |= CHECKS[options.what](options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(whole) + "\n")


if __name__ == "__main__":
    main()
