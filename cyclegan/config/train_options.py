"""Every option of train.py: its default, help line and check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cyclegan.config import expressions
from cyclegan.config.expressions import Term
from cyclegan.config.options import Direction, Settings
from cyclegan.config.value_types import (
    NO_MONITOR,
    BatchSize,
    Duration,
    Expression,
    MonitorNames,
    Part,
    UserPath,
)

Preprocess = Literal[
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "resize", "none"
]


def _part(default: str, description: str) -> Any:
    """A part, or a sum of parts, whose default is text like any other value."""
    return Field(default, description=description)


def _own(what: str) -> Any:
    return Field(None, description=f"the same for {what} alone")


class TrainSettings(Settings):
    """Train two generators and two discriminators on two folders of images that do not pair up.
    A preset sets many options at once; a file of --config wins over it, and the command line over
    both.
    """

    # The first option of each group in --help, and the group's title.
    GROUPS: ClassVar[Mapping[str, str]] = {
        "dataroot": "run and machine",
        "preset": "recipe",
        "direction": "images",
        "generator": "networks",
        "adversarial": "losses, sums of weighted parts as 10*l1 + 1*ssim",
        "batch_size": "optimization",
        "cache": "cache of decoded images",
        "evaluate_every": "measurements, previews, saves",
        "monitor": "monitors",
    }
    EXAMPLES: ClassVar[Sequence[str]] = (
        "python train.py --dataroot ./data/lr2hr --preset quick",
        'python train.py --dataroot DATA --cycle "10*l1 + 1*ms_ssim" --batch_size auto',
        "python train.py --dataroot DATA --dry_run",
        "python train.py --name lr2hr --continue_train --n_epochs 150",
        "torchrun --nproc-per-node 4 -- train.py --dataroot DATA --batch_size 4",
    )

    preset: str = Field("classic", description="a named set of defaults: classic, quick, sr ...")
    config: UserPath | None = Field(None, description="a YAML file of options, over the preset")
    continue_train: bool = Field(False, description="go on where the run of this name stopped")
    dry_run: bool = Field(
        False, exclude=True, description="check everything, say what would run, and end"
    )

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

    generator: Part = _part("resnet(blocks=9)", "network of both generators")
    generator_BA: Part | None = Field(
        None, description="network of G_BA, where another than G_AB's"
    )
    discriminator: Part = _part("patch(layers=3)", "network of both discriminators")
    ngf: int = Field(64, ge=1, le=4096, description="width of the generators")
    ndf: int = Field(64, ge=1, le=4096, description="width of the discriminators")
    init_type: Literal["normal", "xavier", "kaiming", "orthogonal"] = Field(
        "normal", description="distribution of the first weights"
    )
    init_gain: float = Field(0.02, gt=0, description="scale of the first weights")

    adversarial: Expression = _part(
        "lsgan", "the game of G and D: lsgan, vanilla, hinge ... or none"
    )
    adversarial_A: Expression | None = _own("images of A")
    adversarial_B: Expression | None = _own("images of B")
    penalty: Expression = _part("none", "penalty on D, as 10*gradient_penalty or 1*r1(every=16)")
    penalty_A: Expression | None = _own("D_A")
    penalty_B: Expression | None = _own("D_B")
    diffaugment: Expression = _part(
        "none", "what D sees is augmented by: translation + cutout + color"
    )
    cycle: Expression = _part("10*l1", "loss of reconstructions, as 10*l1 + 1*ssim(window=7)")
    cycle_A: Expression | None = _own("images of A")
    cycle_B: Expression | None = _own("images of B")
    identity: Expression = _part("5*l1", "loss of G_BA(A) against A and mirrored, or none")
    identity_A: Expression | None = _own("images of A")
    identity_B: Expression | None = _own("images of B")
    content: Expression = _part("none", "loss of a translation against its source")
    content_A: Expression | None = _own("translations into A")
    content_B: Expression | None = _own("translations into B")
    pseudo_pair: Expression = _part(
        "none", "loss of a reconstruction that trains its last generator alone"
    )
    pseudo_pair_A: Expression | None = _own("images of A")
    pseudo_pair_B: Expression | None = _own("images of B")
    nce: Expression = _part("none", "contrast of patches of source and translation: 1*patch_nce")
    nce_A: Expression | None = _own("translations into A")
    nce_B: Expression | None = _own("translations into B")
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
    optimizer: Part = _part("adam", "adam, adamw, sgd(momentum=0.9), rmsprop, adagrad")
    optimizer_D: Part | None = Field(None, description="the same for the discriminators alone")
    lr: float = Field(2e-4, gt=0, lt=1, description="first learning rate")
    lr_D: float | None = Field(
        None, gt=0, lt=1, description="first learning rate of the discriminators, where not lr"
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="momentum of Adam")
    schedule: Part = _part("linear", "how the rate falls: linear, cosine, step, plateau, constant")
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

    monitor: MonitorNames = _part(
        "visdom",
        "who is told how the run goes: visdom, tensorboard, wandb, a class of your own "
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

    def slot(self, kind: str, domain: str) -> expressions.Expression:
        """The losses of a slot for images of domain A or B."""
        own: expressions.Expression | None = getattr(self, f"{kind}_{domain}")
        common: expressions.Expression = getattr(self, kind)
        return common if own is None else own

    def generator_of(self, name: str) -> Term:
        """The network of G_AB or G_BA."""
        return self.generator_BA if name == "G_BA" and self.generator_BA else self.generator

    def generator_options(self, name: str) -> dict[str, Any]:
        """The arguments of `networks.factory.build_generator` for G_AB or G_BA. With --scale the
        first enlarges images and the second reduces them.
        """
        resize = {"scale": self.scale} if name == "G_AB" else {"shrink": self.scale}
        return {"term": self.generator_of(name), "channels": self.ngf, **resize}

    @property
    def shows_nothing(self) -> bool:
        """Whether nobody is told of the run: nothing is drawn or measured for a monitor then."""
        return self.monitor.text == NO_MONITOR

    def terms(self) -> Iterator[Term]:
        """Every part that any option names."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Term):
                yield value
            elif isinstance(value, expressions.Expression):
                yield from value

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
