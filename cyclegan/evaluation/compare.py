"""Compares the translations of a run's test images, and the images themselves, with real B."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from os.path import commonpath
from pathlib import Path
from statistics import mean

from PIL import Image

from cyclegan.data.files.images import UnreadableImage, read_image, to_tensor
from cyclegan.data.files.reading import ImageFile, TarMember
from cyclegan.data.files.sources import DataSources, source_dir
from cyclegan.evaluation.image_metrics import psnr, sliced_wasserstein

# Enough for a stable figure, and quick on any machine; the number used is always reported.
MAX_IMAGES = 64


@dataclass(frozen=True)
class TranslationMetrics:
    """Sliced Wasserstein distance to real B of the inputs A and of their translations; PSNR in dB
    if the test images form pairs.
    """

    images: int
    swd_input: float
    swd_fake: float
    psnr_input: float | None
    psnr_fake: float | None

    @property
    def nearer(self) -> float:
        """The decrease of the distance as a share of the input's; negative if it increases."""
        return 1 - self.swd_fake / self.swd_input if self.swd_input else 0.0

    def describe(self) -> list[str]:
        change = f" ({100 * abs(self.nearer):.0f} % {'nearer' if self.nearer >= 0 else 'farther'})"
        lines = [
            f"sliced Wasserstein distance to real B over {self.images} test images: "
            f"input {self.swd_input:.1f}, translated {self.swd_fake:.1f}"
            f"{change if self.swd_input else ''}"
        ]
        if self.psnr_input is not None and self.psnr_fake is not None:
            lines.append(
                f"PSNR to real B: input {self.psnr_input:.2f} dB, translated "
                f"{self.psnr_fake:.2f} dB ({self.psnr_fake - self.psnr_input:+.2f})"
            )
        return lines

    def scalars(self) -> dict[str, float]:
        """The figures of the translations, which are shown as curves."""
        paired = {} if self.psnr_fake is None else {"psnr": self.psnr_fake}
        return {"swd": self.swd_fake, **paired}

    def as_dict(self) -> dict[str, float | int | None]:
        return {**asdict(self), "nearer": self.nearer}


def can_compare(sources: DataSources) -> bool:
    """Whether there are test images of both domains."""
    return all(sources.find("test", domain) is not None for domain in "AB")


def compare(
    sources: DataSources, translate: Callable[[Image.Image], Image.Image]
) -> TranslationMetrics | None:
    """Translates testA and compares it with testB; None if either is absent or unreadable.

    If both have the same file names, the images form pairs, and an input of another size than its
    partner is first resized to it by bicubic interpolation.
    """
    source_A, source_B = (sources.find("test", domain) for domain in "AB")
    if source_A is None or source_B is None:
        return None
    files_A, files_B = (
        _by_name(source_dir(source), sources.scan(source).files) for source in (source_A, source_B)
    )
    paired = files_A.keys() == files_B.keys()
    images_A, images_B = _read(files_A, files_A), _read(files_B, files_A if paired else files_B)
    names = [name for name in images_A if name in images_B]
    inputs = [images_A[name] for name in (names if paired else images_A)]
    reals = [images_B[name] for name in (names if paired else images_B)]
    if not inputs or not reals:
        return None
    fakes = [translate(image) for image in inputs]
    if paired:
        inputs, fakes = (list(map(_resize, images, reals)) for images in (inputs, fakes))
    return TranslationMetrics(
        images=len(inputs),
        swd_input=sliced_wasserstein(inputs, reals),
        swd_fake=sliced_wasserstein(fakes, reals),
        psnr_input=_mean_psnr(inputs, reals) if paired else None,
        psnr_fake=_mean_psnr(fakes, reals) if paired else None,
    )


def _by_name(folder: Path, files: Sequence[ImageFile]) -> dict[Path, ImageFile]:
    """Images by their path in the folder without its suffix. A tar member goes by its path in the
    tar file, without the folders that all members share.
    """
    members = [file for file in files if isinstance(file, TarMember)]
    shared = commonpath([Path(m.inner_path).parent for m in members]) if members else ""
    inside = [Path(m.inner_path).relative_to(shared).with_suffix("") for m in members]
    if len(set(inside)) < len(inside):
        # Names that several tar files contain are told apart by the order of the files.
        numbers = {shard: str(i) for i, shard in enumerate(dict.fromkeys(m.shard for m in members))}
        inside = [numbers[m.shard] / name for m, name in zip(members, inside, strict=True)]
    plain = {f.relative_to(folder).with_suffix(""): f for f in files if isinstance(f, Path)}
    return {**plain, **dict(zip(inside, members, strict=True))}


def _read(files: Mapping[Path, ImageFile], names: Iterable[Path]) -> dict[Path, Image.Image]:
    """The readable images among the first 64 of these names."""
    images = {}
    for name in islice(names, MAX_IMAGES):
        with suppress(UnreadableImage):
            images[name] = read_image(files[name])
    return images


def _resize(image: Image.Image, partner: Image.Image) -> Image.Image:
    if image.size == partner.size:
        return image
    return image.resize(partner.size, Image.Resampling.BICUBIC)


def _mean_psnr(images: Sequence[Image.Image], references: Sequence[Image.Image]) -> float:
    pairs = zip(images, references, strict=True)
    return mean(psnr(to_tensor(image), to_tensor(real)) for image, real in pairs)
