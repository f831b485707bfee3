"""Every option of the commands: its default, help line and check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cyclegan.config.errors import UserError
from cyclegan.config.value_types import (
    BatchSize,
    DeviceName,
    Duration,
    FolderName,
    MonitorNames,
    UserPath,
)

Preprocess = Literal[
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "resize", "none"
]
Direction = Literal["AtoB", "BtoA"]
AnySettings = TypeVar("AnySettings", bound=BaseModel)


def _slot(default: str, description: str) -> Any:
    return Field(default, description=description)


def _own(what: str) -> Any:
    return Field(None, description=f"the same for {what} alone")


class Settings(BaseModel):
    """What both commands share."""

    # Built when first used: --help and a mistyped option need the options' names alone.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    dataroot: UserPath | None = Field(
        None, description="data folder: trainA trainB testA testB, or A B, searched recursively"
    )
    name: FolderName | None = Field(
        None, description="name of the run, its folder under checkpoints_dir (the data folder's)"
    )
    max_dataset_size: int | None = Field(None, ge=1, description="use only the first N images")
    num_threads: int = Field(
        min(4, os.cpu_count() or 1), ge=0, le=256, description="processes that load images; 0: none"
    )
    device: DeviceName = Field("auto", description="auto, cuda, cuda:1, mps or cpu")
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = Field(
        "auto", description="numbers that networks are computed in; auto: bf16 where there is any"
    )
    compile: Literal["auto", "off", "default", "max"] = Field(
        "auto", description="compiled networks; auto: where the run is long enough to earn it back"
    )
    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    results_dir: UserPath = Field(Path("results"), description="where translations go")
    trust_imports: bool = Field(
        False, description="allow import paths (any code!) in a run's saved settings"
    )


class TrainSettings(Settings):
    """Options of train.py, each with its default; presets and --config change the defaults."""

    preset: str = Field("classic", description="a named set of defaults: classic, quick, sr ...")
    config: UserPath | None = Field(None, description="a YAML file of options, over the preset")
    continue_train: bool = Field(False, description="go on where the run of this name stopped")

    direction: Direction = Field("AtoB", description="BtoA exchanges the two domains")
    dir_A: UserPath | None = Field(None, description="training images of A, in place of dataroot")
    dir_B: UserPath | None = Field(None, description="training images of B, in place of dataroot")
    preprocess: Preprocess = Field("resize_and_crop", description="how images become crops")
    load_size: int = Field(286, ge=4, description="side, or width, that images are resized to")
    crop_size: int = Field(256, ge=8, description="side of the random square crops")
    scale: int = Field(
        1, ge=1, le=4, description="B is so many times larger than A: super-resolution; 1: as large"
    )
    no_flip: bool = Field(False, description="do not mirror images at random")
    serial_batches: bool = Field(False, description="take images in order, A and B in step")

    generator: str = Field("resnet(blocks=9)", description="network of both generators")
    generator_BA: str | None = Field(None, description="network of G_BA, where another than G_AB's")
    discriminator: str = Field("patch(layers=3)", description="network of both discriminators")
    ngf: int = Field(64, ge=1, le=4096, description="width of the generators")
    ndf: int = Field(64, ge=1, le=4096, description="width of the discriminators")
    init_type: Literal["normal", "xavier", "kaiming", "orthogonal"] = Field(
        "normal", description="distribution of the first weights"
    )
    init_gain: float = Field(0.02, gt=0, description="scale of the first weights")

    adversarial: str = _slot("lsgan", "the game of G and D: lsgan, vanilla, hinge ... or none")
    adversarial_A: str | None = _own("images of A")
    adversarial_B: str | None = _own("images of B")
    penalty: str = _slot("none", "penalty on D, as 10*gradient_penalty or 1*r1(every=16)")
    penalty_A: str | None = _own("D_A")
    penalty_B: str | None = _own("D_B")
    diffaugment: str = _slot("none", "what D sees is augmented by: translation + cutout + color")
    cycle: str = _slot("10*l1", "loss of reconstructions, as 10*l1 + 1*ssim(window=7)")
    cycle_A: str | None = _own("images of A")
    cycle_B: str | None = _own("images of B")
    identity: str = _slot("5*l1", "loss of G_BA(A) against A and mirrored, or none")
    identity_A: str | None = _own("images of A")
    identity_B: str | None = _own("images of B")
    content: str = _slot("none", "loss of a translation against its source")
    content_A: str | None = _own("translations into A")
    content_B: str | None = _own("translations into B")
    pseudo_pair: str = _slot(
        "none", "loss of a reconstruction that trains its last generator alone"
    )
    pseudo_pair_A: str | None = _own("images of A")
    pseudo_pair_B: str | None = _own("images of B")
    nce: str = _slot("none", "contrast of patches of source and translation: 1*patch_nce")
    nce_A: str | None = _own("translations into A")
    nce_B: str | None = _own("translations into B")
    pool_size: int = Field(50, ge=0, description="translated images kept for the discriminators")

    batch_size: BatchSize = Field(
        1, description="images of each domain at once; auto: as many as a GPU has memory for"
    )
    n_epochs: int = Field(100, ge=0, le=10**6, description="epochs at the first learning rate")
    n_epochs_decay: int = Field(100, ge=0, le=10**6, description="epochs in which it falls to zero")
    steps: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="length in steps, not epochs; the rate falls in the second half",
    )
    optimizer: str = Field("adam", description="adam, adamw, sgd(momentum=0.9), rmsprop, adagrad")
    optimizer_D: str | None = Field(None, description="the same for the discriminators alone")
    lr: float = Field(2e-4, gt=0, lt=1, description="first learning rate")
    lr_D: float | None = Field(
        None, gt=0, lt=1, description="first learning rate of the discriminators, where not lr"
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="momentum of Adam")
    schedule: str = Field(
        "linear", description="how the rate falls: linear, cosine, step, plateau, constant"
    )
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate first rises")
    clip_grad: float = Field(
        0.0, ge=0, description="longest gradient of all generators, or discriminators; 0: any"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged generators; 0: not averaged"
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=65536,
        description="batches a step, one after another, as one large one",
    )
    checkpoint_activations: bool = Field(
        False, description="recompute the generators' blocks on the way back: less memory"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="one seed fixes every random draw")

    cache: Literal["auto", "off", "ram", "disk"] = Field(
        "auto", description="where images are kept decoded and resized; auto: by their size"
    )
    cache_dir: UserPath | None = Field(
        None, description="folder of a cache on disk (beside the images)"
    )

    evaluate_every: int = Field(
        0, ge=0, description="steps between measurements on the test images; 0: at the end"
    )
    print_every: int = Field(100, ge=1, description="steps between reports")
    preview_every: int = Field(
        1000, ge=1, description="steps between previews, and between measurements of health"
    )
    num_previews: int = Field(4, ge=1, le=16, description="images of each domain in a preview")
    histograms_every: int = Field(
        0, ge=0, description="epochs between looks at how values spread in each layer; 0: never"
    )
    save_every: int = Field(5000, ge=1, description="steps between saves of the latest state")
    save_epoch_every: int = Field(5, ge=1, description="epochs between kept weights")
    keep: int = Field(3, ge=1, description="states kept to go on from, the newest")
    time_limit: Duration | None = Field(
        None, description="save and stop before so long, as 11h30m; status 124 then"
    )
    deterministic: bool = Field(
        False, description="the same numbers every time on CUDA too, at some speed"
    )

    monitor: MonitorNames = Field(
        "visdom",
        description="who is told how the run goes: visdom, tensorboard, wandb, a class of your own "
        "(my_monitors.Mine), several with commas; files: only the run's folder; none: not even "
        "previews",
    )
    quiet: bool = Field(False, description="leave the reports out: warnings and the end remain")
    display_id: int = Field(1, ge=0, description="0 turns the live page off")
    display_server: str = Field("http://127.0.0.1", description="address of a Visdom server")
    display_port: int = Field(8097, ge=1, le=65535, description="port of the Visdom server")
    display_host: str = Field(
        "127.0.0.1", description="address that a server of ours listens on; others need a login"
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TrainSettings:
        resized = self.preprocess in ("resize_and_crop", "scale_width_and_crop")
        if resized and self.crop_size > self.load_size:
            raise ValueError(
                f"--crop_size {self.crop_size} is larger than --load_size {self.load_size}: "
                "lower it, or raise --load_size"
            )
        if "crop" in self.preprocess and self.crop_size % self.scale:
            raise ValueError(
                f"--crop_size {self.crop_size} is not a multiple of --scale {self.scale}, by which "
                f"crops of A are smaller: use {self.crop_size // self.scale * self.scale}"
            )
        if self.steps is None and self.n_epochs + self.n_epochs_decay == 0:
            raise ValueError("--n_epochs and --n_epochs_decay are both 0: nothing to train")
        several = self.accumulate > 1 or self.batch_size != 1
        if several and self.preprocess in ("none", "scale_width"):
            raise ValueError(
                f"--preprocess {self.preprocess} gives images of several sizes: "
                "it needs --batch_size 1, and --accumulate 1"
            )
        if (self.dir_A is None) != (self.dir_B is None):
            raise ValueError("--dir_A and --dir_B go together: give both, or --dataroot")
        return self

    def slot(self, slot: str, domain: str) -> str:
        """The expression of a slot that each domain may have its own of."""
        own: str | None = getattr(self, f"{slot}_{domain}")
        common: str = getattr(self, slot)
        return common if own is None else own

    def slot_option(self, slot: str, domain: str) -> str:
        """The option that such an expression came from."""
        own = f"{slot}_{domain}"
        return slot if getattr(self, own) is None else own

    def generator_of(self, name: str) -> str:
        """The expression of G_AB or G_BA."""
        return self.generator_BA if name == "G_BA" and self.generator_BA else self.generator

    def generator_option(self, name: str) -> str:
        """The option that such an expression came from."""
        return "generator_BA" if name == "G_BA" and self.generator_BA else "generator"

    def smaller(self, domain: str) -> int:
        """How many times smaller than --crop_size and --load_size say images of a domain are."""
        return self.scale if domain == "A" else 1

    @property
    def images_per_step(self) -> int:
        """Of each domain, where the batch size is a number."""
        assert isinstance(self.batch_size, int)
        return self.batch_size * self.accumulate

    @property
    def run_dir(self) -> Path:
        assert self.name is not None
        return self.checkpoints_dir / self.name


class TranslateSettings(Settings):
    """Options of test.py; what the run was trained with comes from its settings.yaml."""

    input: UserPath | None = Field(None, description="image or folder; none: the run's test images")
    output: UserPath | None = Field(None, description="folder (or image) to write")
    direction: Direction | None = Field(
        None, description="which generator; without --input, none means both"
    )
    epoch: FolderName = Field("latest", description="which kept weights of the run")
    weights: UserPath | None = Field(None, description="a .pth or .safetensors of one generator")
    batch_size: BatchSize = Field(
        "auto", description="images at once; auto: by the device and their size"
    )
    num_threads: int = Field(
        min(16, os.cpu_count() or 1), ge=0, le=256, description="threads that read and write images"
    )
    overwrite: bool = Field(False, description="translate again what is already there")


def check(model: type[AnySettings], values: dict[str, Any]) -> AnySettings:
    """Makes settings of plain values; raises UserError naming option, value and remedy."""
    try:
        return model(**values)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(detail) for detail in error.errors())) from None


def _sentence(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    option = detail["loc"][0]
    return f"--{option} {detail['input']}: {message[0].lower()}{message[1:]}"
