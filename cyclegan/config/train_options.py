"""Every option of train.py: its default, help line and check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from cyclegan.config import expressions
from cyclegan.config.expressions import Term
from cyclegan.config.options import Direction, Settings, option
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
InitType = Literal["normal", "xavier", "kaiming", "orthogonal"]

# --continue_train does not take these from the saved settings: they belong to one machine.
LOCAL_OPTIONS = ("display_server", "cache_dir")


class TrainSettings(Settings):
    """Train two generators and two discriminators on two folders of unpaired images. A preset sets
    many options at once; the file of --config overrides it, and the command line overrides both.
    """

    # The first option of each group in --help, and the group's title.
    GROUPS: ClassVar[Mapping[str, str]] = {
        "dataroot": "run and machine",
        "preset": "recipe",
        "direction": "images",
        "generator": "networks",
        "adversarial": "losses: weighted sums such as 10*l1 + 1*ssim, or none",
        "batch_size": "optimization",
        "cache": "cache of decoded images",
        "evaluate_every": "evaluation, previews, checkpoints",
        "monitor": "monitors",
    }
    EXAMPLES: ClassVar[Sequence[str]] = (
        "python train.py --dataroot ./data/lr2hr --preset quick",
        'python train.py --dataroot DATA --cycle "10*l1 + 1*ms_ssim" --batch_size auto',
        "python train.py --dataroot DATA --dry_run",
        "python train.py --name lr2hr --continue_train --n_epochs 150",
        "torchrun --nproc-per-node 4 -- train.py --dataroot DATA --batch_size 4",
    )

    preset: str = option("classic", "a named set of defaults: classic, quick, sr, srcnn")
    config: UserPath | None = option(None, "YAML file of options; overrides the preset")
    continue_train: bool = option(False, "continue the run of this name from its latest state")
    dry_run: bool = option(False, "check everything, say what would run, and end", exclude=True)

    direction: Direction = option("AtoB", "BtoA exchanges the two domains")
    dir_A: UserPath | None = option(None, "training images of A, in place of --dataroot")
    dir_B: UserPath | None = option(None, "training images of B, in place of --dataroot")
    preprocess: Preprocess = option("resize_and_crop", "how images are resized and cropped")
    load_size: int = option(286, "side, or width, to which images are resized", ge=4, le=16384)
    crop_size: int = option(256, "side of the random square crops", ge=8, le=16384)
    scale: int = option(1, "super-resolution: images of B are N times as large", ge=1, le=4)
    no_flip: bool = option(False, "do not mirror images at random")
    serial_batches: bool = option(False, "take images in order, A and B side by side")

    generator: Part = option("resnet(blocks=9)", "network of both generators")
    generator_BA: Part | None = option(None, "another network for G_BA")
    discriminator: Part = option("patch(layers=3)", "network of both discriminators")
    ngf: int = option(64, "channels of the generators' first layer", ge=1, le=4096)
    ndf: int = option(64, "channels of the discriminators' first layer", ge=1, le=4096)
    init_type: InitType = option("normal", "distribution of the initial weights")
    init_gain: float = option(0.02, "scale of the initial weights", gt=0)

    adversarial: Expression = option(
        "lsgan", "adversarial loss of generators and discriminators: lsgan, vanilla, hinge ..."
    )
    adversarial_A: Expression | None = option(None, "the same for images of A alone")
    adversarial_B: Expression | None = option(None, "the same for images of B alone")
    penalty: Expression = option(
        "none", "gradient penalty of the discriminators: 10*gradient_penalty, 1*r1(every=16)"
    )
    penalty_A: Expression | None = option(None, "the same for D_A alone")
    penalty_B: Expression | None = option(None, "the same for D_B alone")
    diffaugment: Expression = option(
        "none", "augmentation of the discriminators' input: translation + cutout + color"
    )
    cycle: Expression = option("10*l1", "loss of the reconstruction: 10*l1 + 1*ssim(window=7)")
    cycle_A: Expression | None = option(None, "the same for images of A alone")
    cycle_B: Expression | None = option(None, "the same for images of B alone")
    identity: Expression = option("5*l1", "loss of G_BA(A) against A, and of G_AB(B) against B")
    identity_A: Expression | None = option(None, "the same for images of A alone")
    identity_B: Expression | None = option(None, "the same for images of B alone")
    content: Expression = option("none", "loss of a translation against its source")
    content_A: Expression | None = option(None, "the same for translations into A alone")
    content_B: Expression | None = option(None, "the same for translations into B alone")
    pseudo_pair: Expression = option(
        "none", "loss of the reconstruction that trains its second generator alone"
    )
    pseudo_pair_A: Expression | None = option(None, "the same for images of A alone")
    pseudo_pair_B: Expression | None = option(None, "the same for images of B alone")
    nce: Expression = option("none", "contrastive loss between patches of source and translation")
    nce_A: Expression | None = option(None, "the same for translations into A alone")
    nce_B: Expression | None = option(None, "the same for translations into B alone")
    pool_size: int = option(50, "past translations that the discriminators see again", ge=0)

    batch_size: BatchSize = option(
        1, "images of each domain in a batch; auto: as many as fit the GPU's memory"
    )
    n_epochs: int = option(100, "epochs at the initial learning rate", ge=0, le=10**6)
    n_epochs_decay: int = option(100, "epochs of decay to zero after that", ge=0, le=10**6)
    steps: int | None = option(
        None, "length in steps in place of epochs; the second half decays", ge=1, le=10**9
    )
    optimizer: Part = option("adam", "adam, adamw, sgd(momentum=0.9), rmsprop, adagrad")
    optimizer_D: Part | None = option(None, "the same for the discriminators alone")
    lr: float = option(2e-4, "initial learning rate", gt=0, lt=1)
    lr_D: float | None = option(None, "the same for the discriminators alone", gt=0, lt=1)
    beta1: float = option(0.5, "first-moment decay of Adam", ge=0, lt=1)
    schedule: Part = option(
        "linear", "learning-rate decay: linear, cosine, step, plateau, constant"
    )
    warmup_steps: int = option(0, "steps of linear warmup of the learning rate", ge=0)
    clip_grad: float = option(
        0.0, "maximum gradient norm of all generators, and of all discriminators; 0: none", ge=0
    )
    ema: float = option(0.0, "decay of the generators' moving average; 0: none", ge=0, lt=1)
    accumulate: int = option(1, "batches whose gradients make one step", ge=1, le=65536)
    checkpoint_activations: bool = option(
        False, "save memory: recompute the generators' activations in the backward pass"
    )
    seed: int = option(0, "seed of all random numbers", ge=0, lt=2**31)

    cache: Literal["auto", "off", "ram", "disk"] = option(
        "auto", "where decoded and resized images are kept; auto: by their size"
    )
    cache_dir: UserPath | None = option(None, "folder of the disk cache (beside the images)")

    evaluate_every: int = option(
        0, "steps between measurements on the test images; 0: at the end alone", ge=0
    )
    print_every: int = option(100, "steps between reports", ge=1)
    preview_every: int = option(1000, "steps between previews and checks of health", ge=1)
    num_previews: int = option(4, "images of each domain in a preview", ge=1, le=16)
    histograms_every: int = option(
        0, "epochs between histograms of weights, gradients and activations; 0: never", ge=0
    )
    save_every: int = option(5000, "steps between saves of the training state", ge=1)
    save_epoch_every: int = option(5, "epochs between weights that are kept", ge=1)
    keep: int = option(3, "number of saved states that are kept", ge=1)
    time_limit: Duration | None = option(
        None, "save and stop before this time is over, as 11h30m; exit status 124"
    )
    deterministic: bool = option(False, "reproducible numbers on CUDA, more slowly")

    monitor: MonitorNames = option(
        "visdom",
        "where progress is shown: visdom, tensorboard, wandb, a class of your own "
        "(my_monitors.Mine), several with commas; files: only in the run's folder; none: no "
        "previews either",
    )
    quiet: bool = option(False, "print warnings and the end alone, no reports")
    display_id: int = option(1, "0 turns the live page off", ge=0)
    display_server: str = option("http://127.0.0.1", "address of the Visdom server")
    display_port: int = option(8097, "port of the Visdom server", ge=1, le=65535)
    display_host: str = option(
        "127.0.0.1", "address on which our own Visdom server listens; others than this need a login"
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
        """The loss expression of a slot, such as "cycle", for images of domain A or B."""
        own: expressions.Expression | None = getattr(self, f"{kind}_{domain}")
        common: expressions.Expression = getattr(self, kind)
        return common if own is None else own

    def generator_of(self, name: str) -> Term:
        """The network of G_AB or G_BA."""
        return self.generator_BA if name == "G_BA" and self.generator_BA else self.generator

    def generator_options(self, name: str) -> dict[str, Any]:
        """Keyword arguments of `networks.factory.build_generator` for G_AB or G_BA."""
        resize = {"scale": self.scale} if name == "G_AB" else {"shrink": self.scale}
        return {"term": self.generator_of(name), "channels": self.ngf, **resize}

    def terms(self) -> Iterator[Term]:
        """Every part that any option names."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Term):
                yield value
            elif isinstance(value, expressions.Expression):
                yield from value

    @property
    def data_options(self) -> dict[str, Any]:
        """Keyword arguments of `data.files.sources.DataSources`."""
        names = ("dataroot", "dir_A", "dir_B", "direction", "max_dataset_size", "cache_dir")
        used = (*names, "preprocess", "crop_size", "scale")
        values = {name: getattr(self, name) for name in used}
        return {**values, "keep_index": self.cache in ("auto", "disk")}

    def transform_options(self, domain: str, *, size_multiple: int = 4) -> dict[str, Any]:
        """Keyword arguments of `data.loading.transforms.ImageTransform` for images of domain A or
        B; the sides of B must be multiples of `size_multiple`.
        """
        factor = self.downscale_factor(domain)
        return {
            "preprocess": self.preprocess,
            "load_size": self.load_size // factor,
            "crop_size": self.crop_size // factor,
            "flip": not self.no_flip,
            "multiple": math.lcm(size_multiple, self.scale) // factor,
        }

    def downscale_factor(self, domain: str) -> int:
        """Downscale factor of a domain's images relative to --crop_size and --load_size."""
        return self.scale if domain == "A" else 1

    @property
    def unmonitored(self) -> bool:
        """Whether there is no monitor, so that nothing is drawn or measured for one."""
        return self.monitor.text == NO_MONITOR

    @property
    def images_per_step(self) -> int:
        """Images of each domain in one optimizer step; the batch size must be a number."""
        assert isinstance(self.batch_size, int)
        return self.batch_size * self.accumulate

    @property
    def run_dir(self) -> Path:
        assert self.name is not None
        return self.checkpoints_dir / self.name
