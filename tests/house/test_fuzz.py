"""Any text on the command line and any file on disk works, or is refused in one line. 10,000 cases,
always the same ones; `FUZZ=100 pytest tests/house/test_fuzz.py` tries 100 times as many new ones.
"""

import io
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from cyclegan import losses, networks
from cyclegan.config import expressions, parts, yaml_files
from cyclegan.config import options as options
from cyclegan.config.command_line import train_settings, translate_settings
from cyclegan.config.errors import UserError
from cyclegan.config.options import TranslateSettings
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.images import UnreadableImage, image_size, read_image
from cyclegan.data.loading.cache import (
    cache_path,
    decode_all,
    open_cache,
    write_cache,
)
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.runs import checkpoints, folder

TIMES = int(os.environ.get("FUZZ", "1"))

FORMATS = {
    "png": [{}, {"optimize": True, "dpi": (72, 72)}],
    "jpeg": [{}, {"progressive": True, "quality": 30}],
    "webp": [{}, {"lossless": True}],
    "tiff": [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}],
    "bmp": [{}],
    "ppm": [{}],
    "gif": [{}, {"save_all": True, "append_images": [Image.new("RGB", (9, 7))]}],
}
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "I;16", "F", "CMYK", "I")
# Bytes for an image of the size that a header declares, and its copies on the way to RGB.
MAX_MEMORY = 4e9


def cases(count: int) -> Callable[[Any], Any]:
    """A number of examples, the same on every machine; with FUZZ, many times more, and others."""
    return profile(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def refused_in_one_line(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """The result of a call, or None if it raises a UserError or UnreadableImage with a message."""
    try:
        return call(*arguments, **keywords)
    except (UserError, UnreadableImage) as error:
        # `one_line_errors` joins the lines of a message that repeats what a user wrote.
        message = str(error)
        assert message.strip()
        return None


def rewrite(path: Path, data: bytes) -> None:
    # Some file systems flush a file that is truncated and written again, but not a new one.
    path.unlink(missing_ok=True)
    path.write_bytes(data)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "double", "end", "flip", "zero"]),
        st.integers(0, 2**16),
        st.integers(1, 64),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def mutated(original: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    data = original
    for kind, place, length, new in edits:
        at = place % (len(data) + 1)
        before, piece, after = data[:at], data[at : at + length], data[at + length :]
        data = {
            "set": before + new + data[at + len(new) :],
            "insert": before + new + piece + after,
            "cut": before + after,
            "double": before + 2 * piece + after,
            "end": before,
            "zero": before + bytes(len(piece)) + after,
            "flip": before + bytes(byte ^ 1 << length % 8 for byte in piece[:1]) + data[at + 1 :],
        }[kind]
    return data


# Expressions

NAMES = sorted({*losses.IMAGE_LOSSES, *losses.ADVERSARIAL_LOSSES, *networks.GENERATORS})
PIECES = st.sampled_from(
    [*NAMES, *"+*()=,.'\"[]{}-:;\\@#%", "**", "->", "none", "10", "1e999", "0x", "1_0", "window=7"]
    + ["label=", "label=(", "True", "lambda:", "not", "()", "__class__", "torch.nn.", "\n", " "]
    + ["𝐥1", "ﬁ", "\x00", "\ud800", "é", "f'{a}'", "b''", "1j", "...", "-1", "nan", "9" * 400]
)
EXPRESSIONS = st.lists(PIECES, max_size=12).map("".join)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.sampled_from([-(10**30), 10**400, 2**63]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-2, 9), max_size=4),
    st.just({"a": 1}),
)


@pytest.mark.filterwarnings("error")
@cases(1500)
@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    refused_in_one_line(expressions.parse, text, option="cycle")


@pytest.mark.filterwarnings("error")
@cases(2000)
@given(EXPRESSIONS)
@example("1if l1 else 2")
def test_any_similar_text_is_an_expression_or_refused(text: str) -> None:
    for term in refused_in_one_line(expressions.parse, text, option="cycle") or []:
        if "." in term.name:
            assert refused_in_one_line(parts.refuse_import_paths, [term]) is None
        elif term.name not in losses.IMAGE_LOSSES:
            assert refused_in_one_line(parts.build, term, losses.IMAGE_LOSSES) is None


@cases(500)
@given(
    st.sampled_from(sorted({**losses.IMAGE_LOSSES, **losses.ADVERSARIAL_LOSSES})),
    st.sampled_from(["window", "size", "eps", "levels", "delta", "beta", "label", "channel"]),
    VALUES,
)
def test_any_option_of_a_loss_is_accepted_or_refused(name: str, option: str, value: Any) -> None:
    table = {**losses.IMAGE_LOSSES, **losses.ADVERSARIAL_LOSSES}
    if name not in ("vgg", "lpips"):
        term = expressions.Term(name, 1.0, {option: value})
        refused_in_one_line(parts.build, term, table)


# Settings

OPTION_NAMES = sorted({*TrainSettings.model_fields, *TranslateSettings.model_fields})
WORDS = st.one_of(
    st.sampled_from(OPTION_NAMES).map("--{}".format),
    st.sampled_from(OPTION_NAMES).map(lambda name: f"-{name[:2]}"),
    st.sampled_from(["1", "0", "-1", "1e9", "nan", "inf", "true", "no", "AtoB", "resize", "auto"]),
    st.sampled_from(
        ["--no-flip", "--gpu_ids", "--netG", "--lambda_A", "--", "-", "--=", "=", "~x"]
    ),
    st.sampled_from(["\0", "\udc80", "loop", "a\nb", "../..", "/", "10**9", "9" * 5000, "None"]),
    st.text(max_size=6),
)


@cases(500)
@given(st.lists(WORDS, max_size=6), st.booleans())
def test_any_command_line_is_read_or_refused(words: list[str], train: bool) -> None:
    command = train_settings if train else translate_settings
    # With --help, a command prints it and exits.
    words = [word for word in words if word not in ("--help", "-h")]
    refused_in_one_line(command, ["--dataroot=somewhere", *words] if train else words)


LINES = st.one_of(
    st.tuples(st.sampled_from(OPTION_NAMES), VALUES.map(repr)).map(": ".join),
    st.tuples(st.sampled_from(OPTION_NAMES), st.text(max_size=8)).map(": ".join),
    st.sampled_from(["!!python/object/apply:os.system ['true']", "a: &a [*a, *a]", "<<: {a: 1}"])
    | st.sampled_from(["? [1, 2]", "- x", "? {a: 1}\n: 2", "!!set {a}", "!!binary x", "--- a"])
    | st.sampled_from(["%YAML 9.9", "seed: 2001-02-03", "lr: !!float x", "seed: !!int ''", "\t"])
    | st.sampled_from(["seed: 0b", "seed: 1:99:99", 'name: "\\ud800"', "<<: *a", "lr: .nan"])
    | st.sampled_from(["seed: !!timestamp 2001-99-99", "=: 1", "{}: 1", "dataroot: !!omap [a: 1]"]),
    st.text(max_size=20),
)


@cases(1500)
@given(st.lists(LINES, max_size=6).map("\n".join), st.lists(st.binary(max_size=3), max_size=1))
@example("a: &a [x,x]\nb: &b [*a,*a]", [])
def test_any_file_of_options_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str, more: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "options.yaml"
    rewrite(path, text.encode(errors="surrogatepass") + b"".join(more))
    values = refused_in_one_line(yaml_files.load_yaml, path)
    if values is not None:
        settings = refused_in_one_line(options.check, TrainSettings, values)
        if settings is not None:
            again = yaml_files.to_yaml(settings)
            rewrite(path, again.encode())
            assert options.check(TrainSettings, yaml_files.load_yaml(path)) == settings
    refused_in_one_line(train_settings_of_file, path) if len(text) % 50 == 0 else None


def train_settings_of_file(path: Path) -> TrainSettings:
    return train_settings(["--dataroot=somewhere", f"--config={path}"])


# Images


def _images() -> Iterator[tuple[str, bytes]]:
    levels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    for mode in MODES:
        picture = Image.fromarray(levels).convert("L" if mode == "I;16" else mode)
        picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture
        exif = Image.Exif()
        exif[0x0112] = 6
        for kind, ways in FORMATS.items():
            for way in ways:
                file = io.BytesIO()
                try:
                    picture.save(file, kind, **way, exif=exif)
                except (OSError, ValueError, KeyError, TypeError):
                    continue
                yield f"{mode} {kind} {sorted(way)}", file.getvalue()


IMAGES = dict(_images())


@cases(2500)
@given(st.sampled_from(sorted(IMAGES)), EDITS)
def test_any_image_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "image.png"
    rewrite(path, mutated(IMAGES[name], edits))
    image = refused_in_one_line(read_image, path)
    size = refused_in_one_line(image_size, path)
    assert image is None or image.mode == "RGB"
    assert size is None or min(size) >= 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MAX_MEMORY


# Weights, states and caches


def _weights() -> dict[str, bytes]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    found = {}
    for name, content in (("weights", net.state_dict()), ("state", {"step": 3, "x": [1.0, None]})):
        for new in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=new)
            found[f"{name} {'zip' if new else 'old'}"] = file.getvalue()
    return found


WEIGHTS = _weights()


@cases(700)
@given(st.sampled_from(sorted(WEIGHTS)), EDITS)
def test_any_weights_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "some_net_G_A.pth"
    rewrite(path, mutated(WEIGHTS[name], edits))
    weights = refused_in_one_line(checkpoints.load_weights, path)
    assert weights is None or all(isinstance(value, torch.Tensor) for value in weights.values())


@cases(300)
@given(st.sampled_from(sorted(WEIGHTS)), EDITS)
def test_any_state_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Any]
) -> None:
    run_dir = tmp_path_factory.getbasetemp() / "run"
    if not run_dir.exists():
        run_dir.mkdir()
        checkpoints.save_state(run_dir, {"step": 1}, step=1)
    (state,) = folder.find_states(run_dir)
    rewrite(state, mutated(WEIGHTS[name], edits))
    assert isinstance(refused_in_one_line(checkpoints.load_state, run_dir), dict | None)


@pytest.fixture(scope="module")
def cached(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[Path], ImageTransform, bytes]:
    folder = tmp_path_factory.mktemp("cached")
    files = []
    for index in range(3):
        files.append(folder / f"{index}.png")
        levels = np.full((12, 9, 3), 80 * index, dtype=np.uint8)
        Image.fromarray(levels).save(files[-1])
    files[1].write_bytes(b"broken")
    prepare = ImageTransform(**TrainSettings(load_size=12, crop_size=8).transform_options("A"))
    path = cache_path(folder / "cache", folder, files, prepare)
    write_cache(path, decode_all(files, prepare))
    return path, files, prepare, path.read_bytes()


@cases(500)
@given(EDITS)
def test_any_cache_is_used_or_rejected(cached: Any, edits: list[Any]) -> None:
    path, files, prepare, original = cached
    # Another file, as the original one is mapped into memory.
    other = path.with_name("other.images")
    rewrite(other, mutated(original, edits))
    images = open_cache(other, files, prepare)
    assert images is None or [np.shape(image) for image in images] == [(12, 12, 3), (), (12, 12, 3)]
