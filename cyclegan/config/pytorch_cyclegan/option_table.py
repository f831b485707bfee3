"""The options of pytorch-CycleGAN-and-pix2pix, and the conversion of their values to ours.

docs/from-pytorch-cyclegan.md lists them for users.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest
from cyclegan.config.train_options import InitType, Preprocess

# Options with their values, "" for a flag. A conversion gives None for an option to leave out.
Given = Mapping[str, str]
Ours = Mapping[str, str | None]


class Entry(NamedTuple):
    """Classic options that are converted together; an empty result means "not needed here".

    `note` is printed beside it. `replaces` names options of ours that `convert` reads and replaces.
    Values that are not in `only` are refused with `remedy`.
    """

    names: tuple[str, ...]
    convert: Callable[[Given], Ours] = lambda given: {}
    note: str = ""
    replaces: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    remedy: str = ""


# A number in plain digits, from 0 up: no classic option means anything below 0.
NUMBER = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

# Our value for each value of a classic option; the first is the default.
_CHOICES: Mapping[str, Mapping[str, str]] = {
    "netG": {
        "resnet_9blocks": "resnet(blocks=9, norm={norm})",
        "resnet_6blocks": "resnet(blocks=6, norm={norm})",
        "unet_256": "unet(layers=8, norm={norm})",
        "unet_128": "unet(layers=7, norm={norm})",
    },
    "netD": {
        "basic": "patch(layers=3, norm={norm})",
        "n_layers": "patch(layers={layers}, norm={norm})",
        "pixel": "pixel(norm={norm})",
    },
    "norm": {"instance": "instance", "batch": "batch", "none": "none", "syncbatch": "batch"},
    "gan_mode": {"lsgan": "lsgan", "vanilla": "vanilla", "wgangp": "wgan"},
    "lr_policy": {
        **{"linear": "linear", "lambda": "linear", "step": "step(every={every}, gamma=0.1)"},
        **{"plateau": "plateau", "cosine": "cosine"},
    },
    "init_type": dict.fromkeys(get_args(InitType), ""),
    "preprocess": dict.fromkeys(get_args(Preprocess), ""),
}
_OURS = {
    **{"netG": "generator", "netD": "discriminator", "norm": "generator"},
    **{"gan_mode": "adversarial", "lr_policy": "schedule"},
}
_PAIRED = "images that pair up, and colorization, are not among the tasks of this program"
_CUT = 'for its loss, train with --nce "1*patch_nce" (and --cycle none)'
_OTHER_TASKS = {
    **dict.fromkeys(("pix2pix", "colorization", "aligned"), _PAIRED),
    **dict.fromkeys(("cut", "CUT", "fastcut", "FastCUT"), _CUT),
    **dict.fromkeys(("test", "single"), "it belongs to test.py"),
}
_INTERVALS = {
    "print_freq": "print_every",
    "display_freq": "preview_every",
    "save_latest_freq": "save_every",
}


def _part(name: str, given: Given) -> Ours:
    if name == "lr_policy" and name not in given:
        return {}
    norm, layers = _choice(given, "norm"), _whole(given, "n_layers_D", 3)
    every = _whole(given, "lr_decay_iters", 50)
    return {_OURS[name]: _choice(given, name).format(norm=norm, layers=layers, every=every)}


def _adversarial(given: Given) -> Ours:
    default = {"gan_mode": "vanilla"} if "no_lsgan" in given else {}
    loss = _choice({**default, **given}, "gan_mode")
    if "no_lsgan" in given and loss != "vanilla":
        raise UserError(f"--gan_mode {given['gan_mode']} --no_lsgan: leave one of them out")
    if loss != "wgan" or "penalty" in given:
        return {"adversarial": loss}
    # The classic wgangp has no gradient penalty, in spite of its name.
    missing = [name for name in ("penalty_A", "penalty_B") if name not in given]
    names = ["penalty"] if len(missing) == 2 else missing
    return {"adversarial": loss, **dict.fromkeys(names, "10*gradient_penalty(every=1)")}


def _cycle_and_identity(given: Given) -> Ours:
    """The classic idt_B is our identity_A, and its weight is a fraction of A's cycle weight. With
    settings other than the classic ones, --lambda_A changes the cycle loss alone.
    """
    cycle = {domain: _number(given, f"lambda_{domain}", 10.0) for domain in "AB"}
    fraction = _number(given, "lambda_identity", 0.5)
    changed = [domain for domain in "AB" if f"lambda_{domain}" in given]
    ours = _l1_terms("cycle", {domain: cycle[domain] for domain in changed})
    if "lambda_identity" in given:
        changed = ["A", "B"]
    elif (
        given.keys() & {"identity", "identity_A", "identity_B", "config", "continue_train"}
        or given.get("preset", "classic") != "classic"
    ):
        changed = []
    return ours | _l1_terms("identity", {domain: fraction * cycle[domain] for domain in changed})


def _l1_terms(slot: str, weights: Mapping[str, float]) -> dict[str, str]:
    terms = {domain: f"{weight:g}*l1" if weight else "none" for domain, weight in weights.items()}
    if len(terms) == 2 and terms["A"] == terms["B"]:
        return {slot: terms["A"]}
    return {f"{slot}_{domain}": term for domain, term in terms.items()}


def _intervals(given: Given) -> Ours:
    # An invalid batch size is refused later, with our own options.
    typed = given.get("batch_size", "")
    batch_size = int(typed) if re.fullmatch(r"[1-9][0-9]{0,8}", typed) else 1
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
    if "{" in given["suffix"] or "name" not in given:
        typed = f"--suffix {given['suffix']}"
        raise UserError(f"{typed} is not supported: write the whole name by --name")
    return {"name": f"{given['name']}_{given['suffix']}"}


def _epoch(given: Given) -> Ours:
    iteration = _whole(given, "load_iter", 0, least=0)
    return {"epoch": f"iter_{iteration}"} if iteration else {}


def _training_task(given: Given) -> Ours:
    _one_of(given, "model", "cycle_gan")
    _one_of(given, "dataset_mode", "unaligned")
    return {}


def _translation_task(given: Given) -> Ours:
    """--model test names one generator's file, and --dataset_mode single a folder of images."""
    model = _one_of(given, "model", "cycle_gan", "test")
    mode = _one_of(given, "dataset_mode", "unaligned", "single")
    typed = ["--model test"] * (model == "test") + ["--dataset_mode single"] * (mode == "single")
    ours = _input(given, " ".join(typed)) if typed else {}
    if model == "test" and "weights" not in given:
        return {"weights": str(_weights_file(given)), **ours}
    return ours


def _input(given: Given, typed: str) -> Ours:
    folders = {given[name] for name in ("dataroot", "input") if name in given}
    if not folders:
        raise UserError(f"{typed}: give the images to translate, by --input FOLDER")
    if len(folders) == 2:
        raise UserError(f"{typed}: --dataroot is the images here, as --input is: leave one out")
    if "dataroot" not in given:
        return {}
    return {"dataroot": None} | ({} if "input" in given else {"input": given["dataroot"]})


def _weights_file(given: Given) -> Path:
    if "name" not in given:
        raise UserError("--model test: give --weights FILE.pth, or --name of its folder")
    folder = Path(given.get("checkpoints_dir", "checkpoints"), given["name"])
    epoch, suffix = given.get("epoch", "latest"), given.get("model_suffix", "")
    path = folder / f"{epoch}_net_G{suffix}.pth"
    # Classic training writes G_A and G_B, and leaves it to the user to copy one of them to G.
    if not suffix and not path.is_file() and any(folder.glob("*_net_G_A.pth")):
        return folder / f"{epoch}_net_G_A.pth"
    return path


def _unused(given: Given) -> Ours:
    for name in sorted(_CHOICES.keys() & given.keys()):
        _choice(given, name)
    for name in ("n_layers_D", "ngf", "ndf", "load_size", "crop_size", "display_port"):
        _whole(given, name, 1)
    _whole(given, "display_id", 0, least=0)
    _number(given, "init_gain", 0.0)
    return {}


def _choice(given: Given, name: str) -> str:
    more = f"; for more, see --{_OURS[name]} of train.py" if name in _OURS else ""
    return _CHOICES[name][_one_of(given, name, *_CHOICES[name], more=more)]


def _one_of(given: Given, name: str, *known: str, more: str = "") -> str:
    value = given.get(name, known[0])
    if value in _OTHER_TASKS and value not in known:
        raise UserError(f"--{name} {value} is not supported: {_OTHER_TASKS[value]}")
    if value not in known:
        hint = "" if value == "none" else nearest(value, known)
        raise UserError(f"--{name} {value} is unknown{hint}; known: {', '.join(known)}{more}")
    return value


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


# Options of train.py that test.py only checks.
_INIT = ("init_type", "init_gain")
_NETWORKS = ("netG", "netD", "n_layers_D", "norm", "no_dropout", "ngf", "ndf", *_INIT)
_SIZES = ("load_size", "crop_size", "preprocess", "no_flip")
_DISPLAY = ("display_id", "display_id=-1", "display_port", "display_winsize")
_GRAY = "images are RGB, and gray files are read as such: leave it out"
_LATEST = "--continue_train goes on from the latest state: leave it out"
_DEFAULT = "it is the default"
_COMMON = (
    Entry(("gpu_ids",), _device),
    Entry(("input_nc", "output_nc"), note="images are RGB", only=("3",), remedy=_GRAY),
    Entry(("verbose",), note="there is no more to print"),
    Entry(("isTrain",), note="the command tells it"),
    Entry(("max_dataset_size=inf",), note="all images are used"),
    Entry(("wandb_project_name",), note="only --use_wandb reads it"),
    Entry(("use_wandb",), only=(), remedy="train.py takes --monitor visdom,wandb for it"),
)
TRAIN_TABLE = (
    # The suffix comes first, as others read the whole name.
    Entry(("suffix",), _name, replaces=("name",)),
    Entry(("model", "dataset_mode"), _training_task, _DEFAULT),
    Entry(("lambda_A", "lambda_B", "lambda_identity"), _cycle_and_identity),
    Entry(("netG", "norm"), partial(_part, "netG")),
    Entry(("netD", "n_layers_D", "norm"), partial(_part, "netD")),
    Entry(("gan_mode", "no_lsgan"), _adversarial),
    Entry(("lr_policy", "lr_decay_iters"), partial(_part, "lr_policy")),
    Entry(tuple(_INTERVALS), _intervals, "steps, where those counted images"),
    Entry(("display_id=-1",), lambda given: {"display_id": "0"}),
    *_COMMON,
    Entry(("num_test",), note="test.py alone reads it"),
    Entry(("no_dropout",), note="there is no dropout unless --generator asks for it"),
    Entry(("phase",), note=_DEFAULT, only=("train",), remedy="give --dir_A and --dir_B"),
    Entry(("epoch_count",), note="--continue_train knows it", only=("1",), remedy=_LATEST),
    Entry(("epoch",), note=_DEFAULT, only=("latest",), remedy=_LATEST),
    Entry(("load_iter",), note=_DEFAULT, only=("0",), remedy=_LATEST),
    Entry(("save_by_iter",), only=(), remedy="write --save_epoch_every 1, as epochs are kept"),
    Entry(("display_ncols", "display_winsize"), note="the live page lays itself out"),
    Entry(("display_env",), note="the live page's environment has the run's name"),
    Entry(("update_html_freq", "no_html"), note="index.html keeps itself up to date"),
)
TEST_TABLE = (
    Entry(("suffix",), _name, replaces=("name",)),
    Entry(("load_iter",), _epoch, replaces=("epoch",)),
    Entry(("model", "dataset_mode", "model_suffix"), _translation_task),
    Entry(_NETWORKS, _unused, "the run's settings, or the weights, tell the networks"),
    Entry(_SIZES, _unused, "images are translated whole, in their own size"),
    Entry(_DISPLAY, _unused, "it has no live page"),
    *_COMMON,
    Entry(("serial_batches",), note="images are always taken in order"),
    Entry(("eval",), note="networks are always in evaluation mode"),
    Entry(("aspect_ratio",), only=("1", "1.0"), remedy="resize the results instead"),
    Entry(("phase",), note=_DEFAULT, only=("test",), remedy="give --input FOLDER"),
)
