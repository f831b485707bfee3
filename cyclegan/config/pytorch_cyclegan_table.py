"""What each option of the classic implementation (pytorch-CycleGAN-and-pix2pix) is here.

A group of its options becomes a group of ours, or of none.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest

# Options with their values: "" for a flag; of ours, None for one that is to be left out.
Given = Mapping[str, str]
Ours = Mapping[str, str | None]


class Group(NamedTuple):
    """Options that are translated together, those of ours in `replaces` from their own values."""

    names: tuple[str, ...]
    convert: Callable[[Given], Ours]
    note: str = ""
    replaces: tuple[str, ...] = ()


# A number in plain digits, from 0 up: below it, no option there has a meaning.
NUMBER = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

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
_PAIRS = "images that pair up, and colorization, are not among the tasks of this program"
_CUT = 'for its loss, train with --nce "1*patch_nce" (and --cycle none)'
_TASKS = {
    **dict.fromkeys(("pix2pix", "colorization", "aligned"), _PAIRS),
    **dict.fromkeys(("cut", "CUT", "fastcut", "FastCUT"), _CUT),
    **dict.fromkeys(("test", "single"), "it belongs to test.py"),
}
# What train.py reads and test.py does not: a mistake in it is a mistake all the same.
_UNREAD_NAMES = {
    "netG": _GENERATORS,
    "netD": _DISCRIMINATORS,
    "norm": _NORMS,
    "init_type": dict.fromkeys(("normal", "xavier", "kaiming", "orthogonal"), ""),
    "preprocess": dict.fromkeys(
        ("resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "resize", "none"), ""
    ),
}
_UNREAD_COUNTS = ("n_layers_D", "ngf", "ndf", "load_size", "crop_size", "display_port")
_INTERVALS = {
    "print_freq": "print_every",
    "display_freq": "preview_every",
    "save_latest_freq": "save_every",
}


def _losses(given: Given) -> Ours:
    """Cycle and identity weights of both domains: their idt_B is our identity_A, weighed by the
    cycle of A. Over settings that are not the classic ones, a cycle's weight changes it alone.
    """
    cycle = {which: _number(given, f"lambda_{which}", 10.0) for which in "AB"}
    share = _number(given, "lambda_identity", 0.5)
    touched = [which for which in "AB" if f"lambda_{which}" in given]
    ours = _slot("cycle", {which: cycle[which] for which in touched})
    if "lambda_identity" in given:
        touched = ["A", "B"]
    elif (
        given.keys() & {"identity", "identity_A", "identity_B", "config", "continue_train"}
        or given.get("preset", "classic") != "classic"
    ):
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
    if "no_lsgan" in given and game != "vanilla":
        raise UserError(f"--gan_mode {given['gan_mode']} --no_lsgan: leave one of them out")
    if game != "wgan" or "penalty" in given:
        return {"adversarial": game}
    # There it was named after a penalty that it never had.
    missing = [f"penalty_{which}" for which in "AB" if f"penalty_{which}" not in given]
    names = ["penalty"] if len(missing) == 2 else missing
    return {"adversarial": game, **dict.fromkeys(names, "10*gradient_penalty(every=1)")}


def _schedule(given: Given) -> Ours:
    if "lr_policy" not in given:
        return {}
    schedule = _one_of(_SCHEDULES, given, "lr_policy", "linear", ours="schedule")
    return {"schedule": schedule.format(every=_whole(given, "lr_decay_iters", 50))}


def _intervals(given: Given) -> Ours:
    # A batch size that is none is refused where ours are checked.
    typed = given.get("batch_size", "")
    batch_size = max(1, int(typed)) if re.fullmatch(r"[0-9]{1,9}", typed) else 1
    return {
        ours: str(max(1, round(_whole(given, name, 1) / batch_size)))
        for name, ours in _INTERVALS.items()
        if name in given
    }


def _device(given: Given) -> Ours:
    ids = given["gpu_ids"]
    if ids == "-1":
        return {"device": "cpu"}
    if re.fullmatch(r"[0-9]{1,2}(,[0-9]{1,2})+", ids):
        raise UserError(
            f"--gpu_ids {ids}: each GPU has a process of its own: leave --gpu_ids out and begin "
            f"the command with torchrun --nproc-per-node {ids.count(',') + 1} -- train.py"
        )
    if not re.fullmatch(r"[0-9]{1,2}", ids):
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


def _default_task(given: Given) -> Ours:
    _check_task(given, {"model": ("cycle_gan",), "dataset_mode": ("unaligned",)})
    return {}


def _check_task(given: Given, known: Mapping[str, tuple[str, ...]]) -> None:
    for name, values in known.items():
        value = given.get(name, values[0])
        if value in values:
            continue
        if value in _TASKS:
            raise UserError(f"--{name} {value} cannot be honoured: {_TASKS[value]}")
        listed = ", ".join(values)
        raise UserError(f"--{name} {value} is unknown{nearest(value, values)}; known: {listed}")


def _single(given: Given) -> Ours:
    """--model test is one generator out of a file, --dataset_mode single a folder for it."""
    _check_task(given, {"model": ("cycle_gan", "test"), "dataset_mode": ("unaligned", "single")})
    ways = {"model": "test", "dataset_mode": "single"}
    asked = [f"--{name} {value}" for name, value in ways.items() if given.get(name) == value]
    ours = _images(given, " ".join(asked)) if asked else {}
    if "--model test" in asked and "weights" not in given:
        return {"weights": str(_weights_file(given)), **ours}
    return ours


def _images(given: Given, asked: str) -> Ours:
    folders = {given[name] for name in ("dataroot", "input") if name in given}
    if not folders:
        raise UserError(f"{asked}: give the images to translate, by --input FOLDER")
    if len(folders) == 2:
        raise UserError(f"{asked}: --dataroot is the images here, as --input is: leave one out")
    if "dataroot" not in given:
        return {}
    return {"dataroot": None} | ({} if "input" in given else {"input": given["dataroot"]})


def _weights_file(given: Given) -> Path:
    if "name" not in given:
        raise UserError("--model test: give --weights FILE.pth, or --name of its folder")
    folder = Path(given.get("checkpoints_dir", "checkpoints"), given["name"])
    epoch = given.get("epoch", "latest")
    path = folder / f"{epoch}_net_G{given.get('model_suffix', '')}.pth"
    # Training leaves G_A and G_B, which one had to copy to G: this is for those who did not.
    uncopied = not given.get("model_suffix") and not path.is_file()
    if uncopied and any(folder.glob("*_net_G_A.pth")):
        return folder / f"{epoch}_net_G_A.pth"
    return path


def _unread(given: Given) -> Ours:
    for name, table in _UNREAD_NAMES.items():
        if name in given:
            _one_of(table, given, name)
    for name in _UNREAD_COUNTS:
        _whole(given, name, 1)
    _whole(given, "display_id", 0, least=0)
    _number(given, "init_gain", 0.0)
    return {}


def _one_of(
    table: Mapping[str, str], given: Given, name: str, default: str = "", *, ours: str = ""
) -> str:
    value = given.get(name, default)
    if value not in table:
        hint = "" if value == "none" else nearest(value, table)
        more = f"; for more, see --{ours}" if ours else ""
        raise UserError(f"--{name} {value} is unknown{hint}; known: {', '.join(table)}{more}")
    return table[value]


def _number(given: Given, name: str, default: float) -> float:
    if name not in given:
        return default
    number = float(given[name]) if NUMBER.fullmatch(given[name]) else math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"--{name} {given[name]}: must be a number from 0 up")
    return number


def _whole(given: Given, name: str, default: int, *, least: int = 1) -> int:
    number = _number(given, name, default)
    if number < least or number != int(number):
        raise UserError(f"--{name} {given[name]}: must be a whole number from {least} up")
    return int(number)


_INIT = ("init_type", "init_gain")
# The suffix comes first, as others look at the whole name.
TRAIN_GROUPS = (
    Group(("suffix",), _name, replaces=("name",)),
    Group(("model", "dataset_mode"), _default_task, "it is the default"),
    Group(("lambda_A", "lambda_B", "lambda_identity"), _losses),
    Group(("netG", "norm"), _generator),
    Group(("netD", "n_layers_D", "norm"), _discriminator),
    Group(("gan_mode", "no_lsgan"), _game),
    Group(("lr_policy", "lr_decay_iters"), _schedule),
    Group(tuple(_INTERVALS), _intervals, "steps, where those counted images"),
    Group(("gpu_ids",), _device),
    Group(("display_id=-1",), lambda _: {"display_id": "0"}),
)
TEST_GROUPS = (
    Group(("suffix",), _name, replaces=("name",)),
    Group(("load_iter",), _iteration, replaces=("epoch",)),
    Group(("model", "dataset_mode", "model_suffix"), _single),
    Group(("gpu_ids",), _device),
    Group(
        (*("netG", "netD", "n_layers_D", "norm", "no_dropout"), "ngf", "ndf", *_INIT),
        _unread,
        "the run's settings, or the weights, tell the networks",
    ),
    Group(
        ("load_size", "crop_size", "preprocess", "no_flip"),
        _unread,
        "images are translated whole, in their own size",
    ),
    Group(("display_id", "display_id=-1", "display_port"), _unread, "it has no live page"),
)
