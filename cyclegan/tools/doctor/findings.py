"""The problems that the doctor knows: severity, meaning and remedy of each."""

from collections.abc import Sequence
from typing import NamedTuple

from cyclegan.data.files.reading import ImageFile


class Finding(NamedTuple):
    """One problem: a key of KINDS, the file or files that share it, and the details."""

    kind: str
    files: Sequence[ImageFile]
    detail: str


class ProblemKind(NamedTuple):
    """An error keeps files out of training, a warning harms training, a note is harmless."""

    severity: str
    # Follows a number, as in "3 damaged".
    title: str
    meaning: str
    remedy: str | None


_AGAIN = "fetch or export them again, or remove them"

# severity -> kind -> title, meaning, remedy; findings are reported in this order.
_TABLE: dict[str, dict[str, tuple[str, str, str | None]]] = {
    "error": {
        "no_images": ("without images", "no file can be used", "put images into the folder"),
        "damaged": ("damaged", "truncated, or they do not decode; left out", _AGAIN),
        "empty": ("empty", "files of 0 bytes, as after a broken download; left out", _AGAIN),
        "not_an_image": ("not images", "an image's ending, other content; left out", _AGAIN),
        "unreadable": (
            "unreadable",
            "broken links, missing permissions, no regular files; left out",
            "repair the link or the permission, or remove them",
        ),
        "too_large": ("too large", "more pixels than is safe to decode; left out", "cut them up"),
        "too_small": ("too small", "smaller than 8 px; left out", "remove them"),
    },
    "warning": {
        "foreign": (
            "ignored",
            "images, but the program does not read files with these endings",
            "convert them to PNG or JPEG, or rename those that are PNG or JPEG",
        ),
        "across_domains": (
            "in both domains",
            "the same picture in A and in B: the task is not unpaired",
            "keep each in one domain; `degrade --unpaired` makes domains of different photographs",
        ),
        "train_test": (
            "in training and in test",
            "the run is evaluated on pictures it was trained on",
            "remove them from one of the two",
        ),
        "flat": ("flat", "a single colour; an instance norm divides by almost 0", "remove them"),
        "tiny": (
            "tiny",
            "shorter side below 32 px: enlarged, they teach blur",
            "remove them, or use larger versions",
        ),
        "long": (
            "long",
            "a side over 4 times the other: --preprocess resize_and_crop squeezes them to a square",
            "cut them, or use --preprocess crop or scale_width_and_crop",
        ),
    },
    "note": {
        "wrong_ending": ("of another format than their ending", "read by content", "rename them"),
        "animated": ("of several pictures", "only the first is used", "save others as files"),
        "cmyk": (
            "in CMYK or Lab colours",
            "converted to RGB without the profile: colours may be off",
            "export them as sRGB if colour matters",
        ),
        "deep": ("of more than 8 bits", "reduced to 8 bits a channel", None),
        "alpha": ("with transparency", "laid on white", "use another background if white is wrong"),
        "turned": ("rotated by EXIF", "read upright", None),
        "repeated": (
            "there more than once",
            "the same picture twice in one folder: it counts that much more",
            "remove all but one",
        ),
        "paired_test": ("in both test folders", "the same picture in testA and testB", None),
        "sizes": ("of unlike size", "one domain's images are larger", "use --scale to enlarge A"),
    },
}
KINDS = {
    kind: ProblemKind(severity, *words)
    for severity, kinds in _TABLE.items()
    for kind, words in kinds.items()
}
