"""How much nearer to real B a run's translations of its test images are than their inputs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os.path import commonpath
from pathlib import Path
from statistics import mean

from PIL import Image
from torch import Tensor

from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import domain_files, domain_place
from cyclegan.data.files.images import UnreadableImage, read_image, to_tensor
from cyclegan.data.files.reading import ImageFile, Member
from cyclegan.data.files.sources import home
from cyclegan.evaluation.image_metrics import psnr, sliced_wasserstein
from cyclegan.translate.translator import Translator

# Enough for a stable figure, and quick on any machine; the count is always reported.
MOST_IMAGES = 64


@dataclass(frozen=True)
class Comparison:
    """Distances to real B of the inputs A and of their translations; PSNR where names pair up."""

    images: int
    swd_input: float
    swd_fake: float
    psnr_input: float | None
    psnr_fake: float | None

    @property
    def nearer(self) -> float:
        """By which share of the input's distance the translation is nearer; negative: farther."""
        return 1 - self.swd_fake / self.swd_input if self.swd_input else 0.0

    def describe(self) -> list[str]:
        lines = [
            f"sliced Wasserstein distance to real B over {self.images} test images: "
            f"input {self.swd_input:.1f}, translated {self.swd_fake:.1f}{self._change()}"
        ]
        if self.psnr_input is not None and self.psnr_fake is not None:
            lines.append(
                f"PSNR to real B: input {self.psnr_input:.2f} dB, translated "
                f"{self.psnr_fake:.2f} dB ({self.psnr_fake - self.psnr_input:+.2f})"
            )
        return lines

    def _change(self) -> str:
        # Of an input that is real B itself there is no share to speak of.
        if not self.swd_input:
            return ""
        return f" ({100 * abs(self.nearer):.0f} % {'nearer' if self.nearer >= 0 else 'farther'})"

    def scalars(self) -> dict[str, float]:
        """What is worth a curve: the translations' figures."""
        paired = {} if self.psnr_fake is None else {"psnr": self.psnr_fake}
        return {"swd": self.swd_fake, **paired}

    def as_dict(self) -> dict[str, float | int | None]:
        return {**asdict(self), "nearer": self.nearer}


def can_compare(settings: TrainSettings) -> bool:
    """Whether there are test images of both domains."""
    return all(domain_place(settings, "test", domain) is not None for domain in "AB")


def compare(settings: TrainSettings, translator: Translator) -> Comparison | None:
    """Translates testA and measures it against testB; None where either is absent or unreadable.

    Where both hold the same file names, images pair up, and an input of another size than its
    partner is first enlarged (or reduced) to it by bicubic interpolation.
    """
    place_A, place_B = (domain_place(settings, "test", domain) for domain in "AB")
    if place_A is None or place_B is None:
        return None
    names_A, names_B = (
        _by_name(home(place), domain_files(settings, place).files) for place in (place_A, place_B)
    )
    paired, images_A, images_B = _test_images(names_A, names_B)
    if not images_A or not images_B:
        return None
    fakes = [translator(image) for image in images_A]
    if paired:
        images_A, fakes = (
            [_fit(image, real) for image, real in zip(part, images_B, strict=True)]
            for part in (images_A, fakes)
        )
    inputs, outputs, reals = ([to_tensor(i) for i in part] for part in (images_A, fakes, images_B))
    return Comparison(
        images=len(inputs),
        swd_input=sliced_wasserstein(inputs, reals),
        swd_fake=sliced_wasserstein(outputs, reals),
        psnr_input=_mean_psnr(inputs, reals) if paired else None,
        psnr_fake=_mean_psnr(outputs, reals) if paired else None,
    )


def _by_name(folder: Path, files: Sequence[ImageFile]) -> dict[Path, ImageFile]:
    """Each image under its place in the folder, without its ending; one in a tar file under its
    place there, less the folders that all of them lie in.
    """
    members = [file for file in files if isinstance(file, Member)]
    shared = commonpath([Path(file.inside).parent for file in members]) if members else ""
    inside = [Path(file.inside).relative_to(shared).with_suffix("") for file in members]
    if len(set(inside)) < len(inside):
        # Tar files that each count from the start: told apart by their order.
        numbers = {shard: str(i) for i, shard in enumerate(dict.fromkeys(m.shard for m in members))}
        inside = [numbers[m.shard] / name for m, name in zip(members, inside, strict=True)]
    alone = {f.relative_to(folder).with_suffix(""): f for f in files if isinstance(f, Path)}
    return {**alone, **dict(zip(inside, members, strict=True))}


def _test_images(
    names_A: dict[Path, ImageFile], names_B: dict[Path, ImageFile]
) -> tuple[bool, list[Image.Image], list[Image.Image]]:
    """Whether the names pair up, and the readable images of either domain."""
    paired = names_A.keys() == names_B.keys()
    if paired:
        names_B = {name: names_B[name] for name in names_A}
    chosen = [list(names.values())[:MOST_IMAGES] for names in (names_A, names_B)]
    images_A, images_B = ([_read(path) for path in paths] for paths in chosen)
    if paired:
        whole = [pair for pair in zip(images_A, images_B, strict=True) if None not in pair]
        images_A, images_B = [pair[0] for pair in whole], [pair[1] for pair in whole]
    return paired, [i for i in images_A if i is not None], [i for i in images_B if i is not None]


def _read(file: ImageFile) -> Image.Image | None:
    try:
        return read_image(file)
    except UnreadableImage:
        return None


def _fit(image: Image.Image, partner: Image.Image) -> Image.Image:
    if image.size == partner.size:
        return image
    return image.resize(partner.size, Image.Resampling.BICUBIC)


def _mean_psnr(images: list[Tensor], references: list[Tensor]) -> float:
    return mean(psnr(image, real) for image, real in zip(images, references, strict=True))
