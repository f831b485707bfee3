"""Malicious checkpoints, settings, images and folders."""

import ast
import io
import os
import pickle
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cyclegan import losses
from cyclegan.config import expressions, parts, yaml_files
from cyclegan.config.command_line import train_settings, translate_settings
from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import run_settings
from cyclegan.data.files.domains import check_domain
from cyclegan.data.files.images import UnreadableImage, image_size, read_image
from cyclegan.data.files.sources import DataSources, find_images
from cyclegan.data.loading.cache import open_cache
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.runs import checkpoints, folder
from cyclegan.translate import Translator
from cyclegan.translate.image_folders import find_jobs, translate_files

PACKAGE = Path(__file__).resolve().parents[2] / "cyclegan"
MEGABYTE = 2**20


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A path that exists as soon as any malicious code has run."""
    return tmp_path / "mark"


@pytest.fixture
def own_module(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder that leaves the mark when it is imported."""
    (tmp_path / "sent_along.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nfrom torch.nn import *\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "sent_along"


def said(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """The error message of a call, which must be one line."""
    with pytest.raises((UserError, UnreadableImage)) as caught:
        call(*arguments, **keywords)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def peak() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Nothing is unpickled


def test_the_malicious_pickle_works_if_it_is_unpickled(mark: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
@pytest.mark.parametrize("inside", ["alone", "beside tensors"])
def test_code_in_weights_or_a_state_does_not_run(
    kind: str, inside: str, tmp_path: Path, mark: Path
) -> None:
    content: Any = Bomb(mark)
    if inside == "beside tensors":
        content = {"model.1.weight": torch.zeros(2), "extra": content}
    path = tmp_path / "latest_net_G_A.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    checkpoints.save_state(tmp_path, {}, step=1)
    folder.find_states(tmp_path)[0].write_bytes(path.read_bytes())
    assert "latest_net_G_A.pth" in said(checkpoints.load_weights, path)
    said(Translator.load, path, device="cpu")
    said(checkpoints.load_state, tmp_path)
    term = expressions.parse_one(f"vgg(weights='{path}')", option="cycle")
    said(parts.build, term, losses.IMAGE_LOSSES)
    assert not mark.exists()


def test_a_pickle_in_place_of_a_cache_is_not_used(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "x.images"
    prepare = ImageTransform(**TrainSettings().transform_options("A"))
    for content in (pickle.dumps(Bomb(mark)), _npy(Bomb(mark))):
        path.write_bytes(content)
        assert open_cache(path, [tmp_path / "0.png"], prepare) is None
    assert not mark.exists()


def _npy(content: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([content], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("source", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_line_of_ours_unpickles_or_evaluates(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert name not in ("eval", "exec", "compile", "os.system", "yaml.unsafe_load"), name
            assert not name.startswith(("pickle.", "marshal.", "dill.", "joblib.")), name
            assert name != "torch.load" or keywords["weights_only"] == "True"
            assert name != "yaml.load" or "Plain" in keywords["Loader"]
            assert keywords.get("allow_pickle", "False") == "False"
            assert keywords.get("shell", "False") == "False"


# Archives that unpack to more than they are


def repacked(path: Path, *, data: int, method: int) -> None:
    """Weights as torch writes them, but for one tensor, which is so many zeros, packed so."""
    torch.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, content in entries.items():
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(data // MEGABYTE if "/data/" in name else 0):
                    file.write(bytes(MEGABYTE))
                file.write(content)


def test_compressed_weights_of_256_MB_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G_A.pth"
    repacked(path, data=2**28, method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10 * MEGABYTE
    before = peak()
    assert "latest_net_G_A.pth" in said(checkpoints.load_weights, path)
    assert peak() - before < 100 * MEGABYTE


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_weights_are_refused_whatever_packs_them(method: int, tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G_A.pth"
    repacked(path, data=0, method=method)
    said(checkpoints.load_weights, path)


def test_an_entry_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G_A.pth"
    torch.save({"w": torch.zeros(4)}, path)
    whole = bytearray(path.read_bytes())
    # The sizes of the last entry in the table at the file's end, packed and not.
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(whole)
    before = peak()
    said(checkpoints.load_weights, path)
    assert peak() - before < 100 * MEGABYTE


# Settings


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [MARK]",
        "!!python/object/new:os.mkdir [MARK]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!mine {a: 1}",
        "!!timestamp 2001-99-99",
        "!!bool maybe",
        "!!int ''",
        "!!float x",
        "!!binary é",
        "&a [*a]",
        '"\\ud800"',
        f"0x{'F' * 10_000}",
        "9" * 5000,
        "[" * 1000,
    ],
    ids=lambda value: value[:24],
)
def test_settings_with_tags_or_nonsense_are_refused(value: str, tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"generator: {value.replace('MARK', str(mark))}\n", encoding="utf-8")
    assert str(path) in said(yaml_files.load_yaml, path)
    said(run_settings, tmp_path)
    said(train_settings, ["--dataroot=x", f"--config={path}"])
    assert not mark.exists()


@pytest.mark.parametrize(
    "doubling", ["{next}: &{next} [{nine}]", "{next}: &{next} {{<<: [{nine}]}}"]
)
def test_a_yaml_file_that_expands_is_refused(doubling: str, tmp_path: Path) -> None:
    lines = ["a: &a [x]" if "<<" not in doubling else "a: &a {x: 1}"]
    for name, following in zip("abcdefghijklmno", "bcdefghijklmnop"):
        lines.append(doubling.format(next=following, nine=", ".join([f"*{name}"] * 9)))
    path = tmp_path / "laughs.yaml"
    path.write_text("\n".join(lines))
    before = peak()
    said(yaml_files.load_yaml, path)
    assert peak() - before < 100 * MEGABYTE


def test_a_file_of_options_too_large_to_be_one_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("seed: 1\n" * 100_000)
    assert "more than 100000 bytes" in said(yaml_files.load_yaml, path)
    assert "more than 100000 bytes" in said(yaml_files.load_yaml, Path("/dev/zero"))


def test_an_anchor_that_only_saves_typing_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ngf: &width 16\nndf: *width\n")
    assert yaml_files.load_yaml(path) == {"ngf": 16, "ndf": 16}


@pytest.mark.parametrize("trust", ["false", "true"])
@pytest.mark.parametrize("option", ["generator", "generator_BA"])
def test_an_import_path_in_a_downloaded_run_is_not_imported(
    option: str, trust: str, own_module: str, tmp_path: Path, mark: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"preset: classic\ntrust_imports: {trust}\n{option}: {own_module}.Identity\n"
    )
    weights = tmp_path / "latest_net_G_B.pth"
    torch.save({}, weights)
    for source in (tmp_path, weights):
        line = said(Translator.load, source, direction="BtoA", device="cpu")
        assert f"{own_module}.Identity is an import path in a saved file" in line
        assert "--trust_imports" in line
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "sent_along.L1Loss", "torch.hub.load"])
@pytest.mark.parametrize("option", ["cycle", "generator", "schedule", "optimizer_D", "monitor"])
def test_a_continued_run_is_trusted_by_the_command_line_alone(
    name: str, option: str, own_module: str, tmp_path: Path, mark: Path
) -> None:
    run = tmp_path / "checkpoints" / "sent"
    run.mkdir(parents=True)
    saved = f"trust_imports: true\n{option}: {name}\ndataroot: somewhere\n"
    (run / "settings.yaml").write_text(saved)
    words = ["--name=sent", f"--checkpoints_dir={run.parent}", "--continue_train"]
    assert f"--{option}: {name} is an import path" in said(train_settings, words)
    assert train_settings([*words, "--trust_imports"]).trust_imports is True
    assert not mark.exists()


@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize("pair", ["()", "[]", "l1(", "-", "1+", "a."])
def test_an_expression_of_any_depth_is_refused_without_a_crash(pair: str, depth: int) -> None:
    text = pair[:-1] * depth + "1" + pair[-1] * depth if pair in ("()", "[]") else pair * depth
    said(expressions.parse, text, option="cycle")
    said(expressions.parse, f"l1(window={text})", option="cycle")


# Images


def png(width: int, height: int) -> bytes:
    """A PNG that declares such a size, of a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bmp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "bmp")
    return file.getvalue()[:18] + struct.pack("<ii", width, height) + file.getvalue()[26:]


def ppm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes(100)


@pytest.mark.parametrize("make", [png, bmp, ppm])
def test_an_image_that_declares_gigapixels_is_refused_unread(
    make: Callable[[int, int], bytes], tmp_path: Path, make_images: Any
) -> None:
    make_images(tmp_path / "trainA", 2)
    path = tmp_path / "trainA" / "large.png"
    path.write_bytes(make(65_000, 65_000))
    before = peak()
    for read in (read_image, image_size):
        assert "65000x65000" in said(read, path)
    found = check_domain(DataSources(dataroot=tmp_path), "A")
    assert list(found.unreadable) == [path]
    assert peak() - before < 100 * MEGABYTE


# Folders and names

NAMES = ["x...png", "a:b.png", "CON.png", "nul.PNG", "a\\..\\..\\x.png", "C:\\x.png", "-rf.png"]
NAMES += ["a\nb.png", "~.png", "$HOME.png", "%2e%2e%2f.png", "é\udcff.png", "x" * 200 + ".png"]


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.new("RGB", (20, 18), (200, 10, 10)).save(file, "png")
    return path


def translate(source: Path, output: Path) -> list[str | None]:
    jobs = find_jobs(source, output)
    return [r.problem for r in translate_files(list, jobs, batch_size=1, num_threads=2)]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_translation_stays_in_its_folder_under_its_own_name(name: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "sub" / name)
    assert translate(tmp_path / "in", tmp_path / "out") == [None]
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == sorted([Path("in/sub", name), Path("out/sub", name)])


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_in_the_output_that_leads_out_of_it_is_refused(target: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "deep" / "sub" / "x.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(tmp_path / target)
    assert "leads out of it" in said(find_jobs, tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_within_the_output_or_to_the_output_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "in" / "sub" / "x.png")
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "disk" / "sub").symlink_to("real")
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert translate(tmp_path / "in", tmp_path / "out") == [None]
    assert (tmp_path / "disk" / "real" / "x.png").is_file()


@pytest.mark.parametrize("target", ["precious.png", "x.png", "nothing.png"])
def test_a_link_in_place_of_a_translation_is_replaced_not_followed(
    target: str, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "x.png")
    precious = tmp_path / "precious.png"
    precious.write_bytes(b"precious")
    link = tmp_path / "out" / "x.png"
    link.parent.mkdir()
    # One link leads to itself, and one to a missing file.
    link.symlink_to(link if target == "x.png" else tmp_path / target)
    assert translate(tmp_path / "in", tmp_path / "out") == [None]
    assert not link.is_symlink()
    assert read_image(link).size == (20, 18)
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "nothing.png").exists()


def test_links_in_a_dataset_are_followed_once_and_loops_are_not(tmp_path: Path) -> None:
    inside = write(tmp_path / "data" / "a" / "x.png")
    outside = write(tmp_path / "other" / "y.png")
    data = tmp_path / "data"
    for name, target in {
        "again": data / "a",
        "loop": data,
        "a/up": data,
        "self": data / "self",
        "gone": tmp_path / "gone",
        "there": outside.parent,
        "twice": data / "there",
    }.items():
        (data / name).symlink_to(target)
    (outside.parent / "back").symlink_to(data)
    found = find_images(data)
    assert sorted(path.resolve() for path in found) == sorted([inside, outside])
    assert translate(data, tmp_path / "out") == [None, None]


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".", "a\\b", "a\0b", " a", "a\x1bb"])
def test_no_name_leads_out_of_the_folder_of_runs(name: str, tmp_path: Path) -> None:
    said(train_settings, ["--dataroot=x", f"--name={name}"])
    said(translate_settings, [f"--name={name}"])
    said(translate_settings, ["--name=x", f"--epoch={name}"])
    said(train_settings, ["--dataroot=x", f"--preset={name}"])
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"name": name}))
    said(run_settings, tmp_path)


def test_a_folder_that_is_a_link_to_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    settings = train_settings(["--dataroot=loop"])
    said(check_domain, DataSources(**settings.data_options), "A")
    said(find_jobs, Path("loop"), Path("out"))
    write(Path("in/x.png"))
    said(train_settings, ["--dataroot=loop", "--continue_train"])


@pytest.mark.parametrize("name", ["\udce9", "a\x1bb", "a\\b", " a"], ids=ascii)
def test_a_data_folder_whose_name_a_run_cannot_have_needs_name(name: str, tmp_path: Path) -> None:
    assert "give --name" in said(train_settings, [f"--dataroot={tmp_path / name}"])
    assert train_settings([f"--dataroot={tmp_path / name}", "--name=mine"]).name == "mine"
