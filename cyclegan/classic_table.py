"""What each option of the classic implementation (pytorch-CycleGAN-and-pix2pix) is here.

A group of its options becomes a group of ours; a rule says which values of an option change nothing
here, and what to do instead of the others.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cyclegan.errors import UserError
from cyclegan.spec import nearest

# Options with their values: "" for a flag; of ours, None for one that is to be left out.
Given = Mapping[str, str]
Ours = Mapping[str, str | None]


class Group(NamedTuple):
    """Options that are translated together, those of ours in `replaces` from their own values."""

    names: tuple[str, ...]
    convert: Callable[[Given], Ours]
    note: str = ""
    replaces: tuple[str, ...] = ()


class Rule(NamedTuple):
    """An option that is not needed here if it has one of the values (None: any)."""

    why: str
    values: tuple[str, ...] | None = None
    remedy: str = ""


# Older spellings, and options that are ours under another name.
OLDER = {
    "which_model_netG": "netG",
    "which_model_netD": "netD",
    "which_direction": "direction",
    "which_epoch": "epoch",
    "resize_or_crop": "preprocess",
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "batchSize": "batch_size",
    "nThreads": "num_threads",
    "niter": "n_epochs",
    "niter_decay": "n_epochs_decay",
    "save_epoch_freq": "save_epoch_every",
    "num_test": "max_dataset_size",
    "how_many": "max_dataset_size",
    "ntest": "max_dataset_size",
    "display_single_pane_ncols": "display_ncols",
}
_SWITCHES = {"no_dropout", "no_lsgan", "no_html", "no_flip", "serial_batches"}
FLAGS = frozenset(_SWITCHES | {"save_by_iter", "use_wandb", "verbose", "eval", "isTrain"})

_GENERATORS = {
    "resnet_9blocks": "resnet(blocks=9, norm={norm})",
    "resnet_6blocks": "resnet(blocks=6, norm={norm})",
    "unet_256": "unet(layers=8, norm={norm})",
    "unet_128": "unet(layers=7, norm={norm})",
}
_DISCRIMINATORS = {
    "basic": "patch(layers=3, norm={norm})",
    "n_layers": "patch(layers={layers}, norm={norm})",
    "pixel": "pixel(norm={norm})",
}
_NORMS = {"instance": "instance", "batch": "batch", "none": "none", "syncbatch": "batch"}
_GAMES = {"lsgan": "lsgan", "vanilla": "vanilla", "wgangp": "wgan"}
_SCHEDULES = {
    "linear": "linear",
    "lambda": "linear",
    "step": "step(every={every}, gamma=0.1)",
    "plateau": "plateau",
    "cosine": "cosine",
}
_INTERVALS = {
    "print_freq": "print_every",
    "display_freq": "preview_every",
    "save_latest_freq": "save_every",
}


def _losses(given: Given) -> Ours:
    """Cycle and identity weights of both domains: their idt_B is our identity_A, weighed by the
    cycle of A.
    """
    cycle = {which: _number(given, f"lambda_{which}", 10.0) for which in "AB"}
    share = _number(given, "lambda_identity", 0.5)
    touched = [which for which in "AB" if f"lambda_{which}" in given]
    ours = _slot("cycle", {which: cycle[which] for which in touched})
    if "lambda_identity" in given:
        touched = ["A", "B"]
    elif given.keys() & {"identity", "identity_A", "identity_B"}:
        touched = []
    return ours | _slot("identity", {which: share * cycle[which] for which in touched})


def _slot(slot: str, weights: Mapping[str, float]) -> dict[str, str]:
    terms = {which: f"{weight:g}*l1" if weight else "none" for which, weight in weights.items()}
    if len(terms) == 2 and len(set(terms.values())) == 1:
        return {slot: terms["A"]}
    return {f"{slot}_{which}": term for which, term in terms.items()}


def _generator(given: Given) -> Ours:
    part = _one_of(_GENERATORS, given, "netG", "resnet_9blocks", ours="generator")
    return {"generator": part.format(norm=_norm(given))}


def _discriminator(given: Given) -> Ours:
    part = _one_of(_DISCRIMINATORS, given, "netD", "basic", ours="discriminator")
    # Only n_layers reads how many: there, too, the others leave it unread.
    layers = _whole(given, "n_layers_D", 3)
    return {"discriminator": part.format(layers=layers, norm=_norm(given))}


def _norm(given: Given) -> str:
    return _one_of(_NORMS, given, "norm", "instance", ours="generator")


def _game(given: Given) -> Ours:
    default = "vanilla" if "no_lsgan" in given else "lsgan"
    game = _one_of(_GAMES, given, "gan_mode", default, ours="adversarial")
    # There it was named after a penalty that it never had.
    if game == "wgan" and not given.keys() & {"penalty", "penalty_A", "penalty_B"}:
        return {"adversarial": game, "penalty": "10*gradient_penalty(every=1)"}
    return {"adversarial": game}


def _schedule(given: Given) -> Ours:
    if "lr_policy" not in given:
        return {}
    schedule = _one_of(_SCHEDULES, given, "lr_policy", "linear", ours="schedule")
    return {"schedule": schedule.format(every=_whole(given, "lr_decay_iters", 50))}


def _intervals(given: Given) -> Ours:
    batch_size = _whole(given, "batch_size", 1)
    return {
        ours: str(max(1, round(_whole(given, name, 1) / batch_size)))
        for name, ours in _INTERVALS.items()
        if name in given
    }


def _device(given: Given) -> Ours:
    ids = given["gpu_ids"]
    if ids == "-1":
        return {"device": "cpu"}
    if re.fullmatch(r"\d{1,2}(,\d{1,2})+", ids):
        raise UserError(
            f"--gpu_ids {ids}: a run trains on one GPU; one process for each of several, by "
            f"torchrun, is not there yet: write --device cuda:{ids.partition(',')[0]}"
        )
    if not re.fullmatch(r"\d{1,2}", ids):
        raise UserError(f"--gpu_ids {ids}: write --device cuda:0, or --device cpu")
    return {"device": f"cuda:{ids}"}


def _name(given: Given) -> Ours:
    suffix = given["suffix"]
    if not suffix:
        return {}
    if "{" in suffix or "name" not in given:
        raise UserError(f"--suffix {suffix} cannot be honoured: write the whole name by --name")
    return {"name": f"{given['name']}_{suffix}"}


def _iteration(given: Given) -> Ours:
    iteration = _whole(given, "load_iter", 0, least=0)
    return {"epoch": f"iter_{iteration}"} if iteration else {}


def _single(given: Given) -> Ours:
    """--model test is one generator out of a file, --dataset_mode single a folder for it."""
    for name, known in (
        ("model", ("cycle_gan", "test")),
        ("dataset_mode", ("unaligned", "single")),
    ):
        if given.get(name, known[0]) not in known:
            raise UserError(f"--{name} {given[name]} cannot be honoured: {_TASK}")
    by_file = given.get("model") == "test"
    ours: dict[str, str | None] = {}
    if by_file and "weights" not in given:
        ours["weights"] = str(_weights_file(given))
    if (by_file or given.get("dataset_mode") == "single") and "input" not in given:
        if "dataroot" not in given:
            raise UserError("--model test: give the images to translate, by --input FOLDER")
        ours |= {"dataroot": None, "input": given["dataroot"]}
    return ours


def _weights_file(given: Given) -> Path:
    if "name" not in given:
        raise UserError("--model test: give --weights FILE.pth, or --name of its folder")
    folder = Path(given.get("checkpoints_dir", "checkpoints"), given["name"])
    epoch = given.get("epoch", "latest")
    if "load_iter" in given:
        epoch = _iteration(given).get("epoch") or epoch
    path = folder / f"{epoch}_net_G{given.get('model_suffix', '')}.pth"
    # Training leaves G_A and G_B, which one had to copy to G: this is for those who did not.
    first = folder / f"{epoch}_net_G_A.pth"
    return first if first.is_file() and not path.is_file() else path


def _one_of(table: Mapping[str, str], given: Given, name: str, default: str, *, ours: str) -> str:
    value = given.get(name, default)
    if value not in table:
        raise UserError(
            f"--{name} {value} is unknown{nearest(value, table)}; known: {', '.join(table)}; "
            f"for more, see --{ours}"
        )
    return table[value]


def _number(given: Given, name: str, default: float) -> float:
    try:
        number = float(given.get(name, default))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"--{name} {given[name]}: must be a number from 0 up")
    return number


def _whole(given: Given, name: str, default: int, *, least: int = 1) -> int:
    number = _number(given, name, default)
    if number < least or number != int(number):
        raise UserError(f"--{name} {given[name]}: must be a whole number from {least} up")
    return int(number)


_TASK = "images that pair up, and colorization, are not among the tasks of this program"
_GRAY = "images are RGB, and gray files are read as such: leave it out"
_LATEST = "--continue_train goes on from the latest state: leave it out"
_OWN_LAYOUT = Rule("the live page lays itself out")
_REPORT = Rule("index.html keeps itself up to date")
_FROM_RUN = Rule("the run's settings, or the weights, tell the networks")
_WHOLE = Rule("images are translated whole, in their own size")

_BOTH = {
    "input_nc": Rule("images are RGB", ("3",), _GRAY),
    "output_nc": Rule("images are RGB", ("3",), _GRAY),
    "verbose": Rule("there is no more to print"),
    "isTrain": Rule("the command tells it"),
    "unlimited": Rule("all images are used"),
    "display_winsize": _OWN_LAYOUT,
    "wandb_project_name": Rule("only --use_wandb reads it"),
    "use_wandb": Rule("", (), "the curves are in index.html and metrics.jsonl; leave it out"),
}
TRAIN_RULES = _BOTH | {
    "model": Rule("it is the default", ("cycle_gan",), _TASK),
    "dataset_mode": Rule("it is the default", ("unaligned",), _TASK),
    "no_dropout": Rule("there is no dropout unless --generator asks for it"),
    "phase": Rule("it is the default", ("train",), "name the folders, by --dir_A and --dir_B"),
    "epoch_count": Rule("--continue_train knows the epoch", ("1",), _LATEST),
    "epoch": Rule("it is the default", ("latest",), _LATEST),
    "load_iter": Rule("it is the default", ("0",), _LATEST),
    "save_by_iter": Rule("", (), "weights are kept by epochs; write --save_epoch_every 1"),
    "display_ncols": _OWN_LAYOUT,
    "display_env": Rule("the live page's environment has the run's name"),
    "update_html_freq": _REPORT,
    "no_html": _REPORT,
}
TEST_RULES = _BOTH | {
    **dict.fromkeys(("netG", "netD", "n_layers_D", "norm", "no_dropout"), _FROM_RUN),
    **dict.fromkeys(("ngf", "ndf", "init_type", "init_gain"), _FROM_RUN),
    **dict.fromkeys(("load_size", "crop_size", "preprocess", "no_flip"), _WHOLE),
    **dict.fromkeys(("display_id", "no_display", "display_port"), Rule("it has no live page")),
    "serial_batches": Rule("images are always taken in order"),
    "eval": Rule("networks are always in evaluation mode"),
    "aspect_ratio": Rule("results keep their shape", ("1", "1.0"), "resize the results instead"),
    "phase": Rule("it is the default", ("test",), "name the folder, by --input FOLDER"),
}
TRAIN_GROUPS = (
    Group(("lambda_A", "lambda_B", "lambda_identity"), _losses),
    Group(("netG", "norm"), _generator),
    Group(("netD", "n_layers_D", "norm"), _discriminator),
    Group(("gan_mode", "no_lsgan"), _game),
    Group(("lr_policy", "lr_decay_iters"), _schedule),
    Group(tuple(_INTERVALS), _intervals, "steps, where those counted images"),
    Group(("gpu_ids",), _device),
    Group(("no_display",), lambda _: {"display_id": "0"}),
    Group(("suffix",), _name, replaces=("name",)),
)
TEST_GROUPS = (
    Group(("model", "dataset_mode", "model_suffix"), _single),
    Group(("gpu_ids",), _device),
    Group(("load_iter",), _iteration, replaces=("epoch",)),
    Group(("suffix",), _name, replaces=("name",)),
)
