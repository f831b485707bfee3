"""What the doctor can find: how grave it is, what it means, and what to do."""

from dataclasses import dataclass
from typing import Literal

from cyclegan.data.files.reading import ImageFile


@dataclass(frozen=True)
class Kind:
    """An error keeps files out of training, a warning harms it, with a note the program copes."""

    severity: Literal["error", "warning", "note"]
    # Follows a number, as in "3 damaged".
    title: str
    means: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One thing found: a key of KINDS, the file or the files that share it, and in what way."""

    kind: str
    files: tuple[ImageFile, ...]
    detail: str


_AGAIN = "fetch or export them again, or remove them"

# In the order in which they are told.
KINDS = {
    "no_images": Kind(
        "error", "without images", "nothing there can be used", "put images into the folder"
    ),
    "damaged": Kind("error", "damaged", "they break off or do not decode; left out", _AGAIN),
    "empty": Kind("error", "empty", "files of no bytes, as of a broken download; left out", _AGAIN),
    "not_an_image": Kind(
        "error", "not images", "an image's ending, but something else within; left out", _AGAIN
    ),
    "unreadable": Kind(
        "error",
        "unreadable",
        "broken links, missing permissions, no files at all; left out",
        "mend the link or the permission, or remove them",
    ),
    "too_large": Kind(
        "error",
        "too large",
        "more pixels than Pillow or the memory accepts; left out",
        "make them smaller or cut them into pieces",
    ),
    "too_small": Kind("error", "too small", "smaller than 8 px; left out", "remove them"),
    "foreign": Kind(
        "warning",
        "passed over",
        "images, but by their endings the program does not look for them",
        "convert them to PNG or JPEG, or rename those that are one",
    ),
    "across_domains": Kind(
        "warning",
        "in both domains",
        "the same picture in A and in B: the task is not unpaired",
        "keep each in one domain; `degrade --unpaired` makes domains of different photographs",
    ),
    "train_test": Kind(
        "warning",
        "in training and in test",
        "the run is measured by pictures it was trained on",
        "remove them from one of the two",
    ),
    "flat": Kind(
        "warning",
        "flat",
        "one colour with nothing to see; an instance norm divides by nearly nothing there",
        "remove them",
    ),
    "tiny": Kind(
        "warning",
        "tiny",
        "shorter side below 32 px: enlarged, they teach blur",
        "remove them, or use larger versions",
    ),
    "long": Kind(
        "warning",
        "long",
        "a side over 4 times the other: --preprocess resize_and_crop squeezes them to a square",
        "cut them, or use --preprocess crop or scale_width_and_crop",
    ),
    "wrong_ending": Kind(
        "note",
        "of another format than their ending",
        "read by what they are",
        "rename them for the sake of other programs",
    ),
    "animated": Kind(
        "note",
        "of several pictures",
        "only the first is used",
        "save the others as files where they are wanted",
    ),
    "cmyk": Kind(
        "note",
        "in a printer's colours",
        "converted to RGB without the profile: colours may be off",
        "export them as sRGB where colour matters",
    ),
    "deep": Kind("note", "of more than 8 bits", "reduced to 8 bits a channel", "nothing"),
    "alpha": Kind(
        "note", "with transparency", "laid on white", "lay them on another ground if white is wrong"
    ),
    "turned": Kind("note", "turned by EXIF", "read upright", "nothing"),
    "repeated": Kind(
        "note",
        "there more than once",
        "the same picture in one folder: it counts that much more",
        "remove all but one",
    ),
    "paired_test": Kind(
        "note",
        "in both test folders",
        "the same picture in testA and testB: a paired test",
        "nothing",
    ),
    "sizes": Kind(
        "note",
        "of unlike size",
        "images of one domain are larger than the other's",
        "use --scale where enlargement is the task",
    ),
}
