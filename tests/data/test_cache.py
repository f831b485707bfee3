"""Decoded images kept in memory or in a file: the same pixels, and never those of other files."""

import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.images import read_image
from cyclegan.data.files.sources import DataSources
from cyclegan.data.loading import cache
from cyclegan.data.loading.cache import (
    cache_path,
    choose_cache,
    decode_all,
    open_cache,
    with_cache,
    write_cache,
)
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.hardware import devices

TRANSFORM = ImageTransform("scale_width", 40, 8, True)
GB = 10**9


@pytest.fixture
def files(tmp_path, make_images):
    """Images of several sizes."""
    wide = make_images(tmp_path / "images", 3, size=(48, 40))
    high = make_images(tmp_path / "images" / "high", 3, size=(30, 50), seed=1)
    return sorted([*wide, *high])


def path_of(files, place=None, transform=TRANSFORM) -> Path:
    folder = min(files).parent
    return cache_path(place or folder / ".cyclegan-cache", folder, files, transform)


def build(files, place=None, transform=TRANSFORM) -> Path:
    path = path_of(files, place, transform)
    write_cache(path, decode_all(files, transform))
    return path


def same(first, second) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def test_a_file_gives_back_the_decoded_images(files):
    path = build(files)
    images = open_cache(path, files, TRANSFORM)
    expected = [np.asarray(TRANSFORM.resize(read_image(path))) for path in files]
    assert {image.shape for image in expected} == {(32, 40, 3), (64, 40, 3)}
    assert same(images, expected)


def test_an_image_is_a_read_only_view_of_the_file(files):
    images = open_cache(build(files), files, TRANSFORM)
    assert not images[1].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        images[1][0] = 0


def test_decoding_ahead_keeps_the_order(tmp_path, make_images, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    many = make_images(tmp_path, 30)
    for path, pixels in zip(many, decode_all(many, TRANSFORM), strict=True):
        assert np.array_equal(pixels, np.asarray(TRANSFORM.resize(read_image(path))))


def test_a_broken_file_is_kept_as_its_reason(files):
    files[1].write_bytes(b"")
    path = build(files)
    images = open_cache(path, files, TRANSFORM)
    assert images[1] == "empty file"
    assert same([images[0], images[2]], list(decode_all([files[0], files[2]], TRANSFORM)))


def test_a_folder_of_broken_files_has_a_cache_without_pixels(files):
    for path in files:
        path.write_bytes(b"")
    images = open_cache(build(files), files, TRANSFORM)
    assert list(images) == ["empty file"] * 6


def test_a_cache_that_calls_a_readable_file_broken_is_not_used(files):
    path = path_of(files)
    images = list(decode_all(files, TRANSFORM))
    write_cache(path, [images[0], "the disk was away", *images[2:]])
    assert open_cache(path, files, TRANSFORM) is None


def test_the_name_of_a_cache_depends_on_the_files_and_the_resizing(files):
    first = path_of(files)
    assert path_of(files) == first
    assert path_of(files, transform=ImageTransform("scale_width", 40, 8, False)) == first
    assert path_of(files, transform=ImageTransform("scale_width", 48, 8, True)) != first
    assert path_of(files[1:]) != first
    os.utime(files[0], ns=(1, 1))
    touched = path_of(files)
    assert touched != first
    files[0].write_bytes(files[0].read_bytes() + b" ")
    os.utime(files[0], ns=(1, 1))
    assert path_of(files) != touched


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[1:],
        lambda whole: whole + b"x",
        lambda whole: whole[:-60] + bytes([whole[-60] ^ 1]) + whole[-59:],
    ],
    ids=["empty", "a byte less", "half", "without its head", "a byte more", "a bit of the index"],
)
def test_a_damaged_file_is_not_opened(files, damage):
    path = build(files)
    path.write_bytes(damage(path.read_bytes()))
    assert open_cache(path, files, TRANSFORM) is None


def test_an_interrupted_write_leaves_nothing(files):
    def images():
        yield from list(decode_all(files[:2], TRANSFORM))
        raise KeyboardInterrupt

    path = path_of(files)
    with pytest.raises(KeyboardInterrupt):
        write_cache(path, images())
    assert list(path.parent.iterdir()) == []


def test_writing_a_cache_removes_only_older_caches_of_the_same_folder_and_resizing(
    files, tmp_path, make_images
):
    place = tmp_path / "caches"
    other = build(make_images(tmp_path / "others", 2), place)
    smaller = build(files, place, ImageTransform("scale_width", 32, 8, True))
    before = build(files, place)
    abandoned, running = (before.with_name(f".{before.stem}.{i}.partial") for i in range(2))
    for path in (abandoned, running):
        path.write_bytes(b"half")
    os.utime(abandoned, (1, 1))
    os.utime(files[0], ns=(1, 1))
    after = build(files, place)
    assert set(place.iterdir()) == {other, smaller, after, running}


def _build_from_process(files, started) -> None:
    started.wait()
    build(files)


def test_two_processes_may_write_the_same_cache_at_once(files):
    context = multiprocessing.get_context("spawn")
    started = context.Barrier(2)
    runs = [context.Process(target=_build_from_process, args=(files, started)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    (path,) = path_of(files).parent.iterdir()
    assert same(open_cache(path, files, TRANSFORM), list(decode_all(files, TRANSFORM)))


@pytest.mark.parametrize(
    ("needed", "ram", "disk", "kind"),
    [
        (1 * GB, 8 * GB, 0, "ram"),
        (2 * GB, 64 * GB, 0, "ram"),
        (2 * GB + 1, 64 * GB, 8 * GB + 4, "disk"),
        (1 * GB, 3 * GB, 4 * GB, "disk"),
        (1 * GB, 3 * GB, 3 * GB, "off"),
        (300 * GB, 64 * GB, 900 * GB, "off"),
        (0, 0, 0, "ram"),
    ],
)
def test_auto_chooses_by_the_size(needed, ram, disk, kind):
    assert choose_cache(needed, ram, disk) == kind


def test_this_machine_reports_its_free_memory_and_disk(tmp_path):
    assert devices.ram_free() > 10**6
    assert devices.disk_free(tmp_path / "not" / "there" / "yet") > 10**6


class Run:
    """The images that a run with these options decodes, and what it logs."""

    def __init__(self, said: list[str], dataroot: Path, **options) -> None:
        settings = TrainSettings(dataroot=dataroot, load_size=20, crop_size=16, **options)
        A, B = domains = check_domains(DataSources(**settings.data_options))
        transforms = tuple(ImageTransform(**settings.transform_options(name)) for name in "AB")
        dataset = UnpairedImages((A.files, B.files), transforms, seed=0)
        said.clear()
        kept = with_cache(dataset, domains, cache=settings.cache, cache_dir=settings.cache_dir)
        self.images, self.said = kept.decoded, list(said)
        self.expected = [list(decode_all(d.files, t)) for d, t in zip(domains, transforms)]

    def is_right(self) -> bool:
        return all(map(same, self.images, self.expected))


@pytest.fixture
def run(said):
    return partial(Run, said)


def test_small_sets_are_kept_in_memory(dataroot, run):
    result = run(dataroot)
    assert result.is_right()
    # 5 + 7 images of 20 x 20 x 3 bytes.
    assert result.said == ["images: decoded once, 14.4 kB in memory"]
    assert not list(dataroot.rglob(".cyclegan-cache"))


def test_no_images_are_kept_with_cache_off(dataroot, run):
    result = run(dataroot, cache="off")
    assert result.images is None
    assert result.said == []


@pytest.mark.parametrize("own", [False, True], ids=["beside the images", "in a folder of its own"])
def test_a_cache_on_disk_is_written_once(dataroot, run, tmp_path, monkeypatch, own):
    options = {"cache": "disk", "cache_dir": tmp_path / "kept" if own else None}
    first = run(dataroot, **options)
    assert first.is_right()
    monkeypatch.setattr(cache, "decode_all", None)
    second = run(dataroot, **options)
    assert second.is_right()
    assert first.said == second.said
    places = {path.parent for path in tmp_path.rglob("*.images")}
    beside = {dataroot / name / ".cyclegan-cache" for name in ("trainA", "trainB")}
    assert places == ({tmp_path / "kept"} if own else beside)
    assert first.said == [f"cache: {' and '.join(map(str, sorted(places)))}, 14.4 kB"]


def test_a_cache_beside_the_images_is_not_taken_for_an_image(dataroot, run):
    before = check_domains(DataSources(dataroot=dataroot))
    run(dataroot, cache="disk")
    assert check_domains(DataSources(dataroot=dataroot)) == before


def test_a_damaged_cache_is_rewritten(dataroot, run):
    run(dataroot, cache="disk")
    for path in dataroot.rglob("*.images"):
        path.write_bytes(path.read_bytes()[:-9])
    assert run(dataroot, cache="disk").is_right()


def test_a_disk_that_cannot_be_written_is_reported_and_memory_used(dataroot, run, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    result = run(dataroot, cache="disk", cache_dir=tmp_path / "file")
    assert result.is_right()
    assert result.said == [
        f"warning: no cache in {tmp_path / 'file'} (File exists): see --cache_dir",
        "images: decoded once, 14.4 kB in memory",
    ]


def test_a_disk_without_space_is_reported_before_it_is_filled(dataroot, run, monkeypatch):
    monkeypatch.setattr(cache, "disk_free", lambda folder: 1000)
    result = run(dataroot, cache="disk")
    assert "(6.0 kB needed, 1.0 kB free)" in result.said[0]
    assert not list(dataroot.rglob("*.images"))


def test_auto_uses_the_disk_if_memory_is_short_and_keeps_using_it(dataroot, run, monkeypatch):
    monkeypatch.setattr(cache, "ram_free", lambda: 0)
    # 14,400 bytes are a quarter of this, and of what is left of it once they are written.
    free = 4 * 14_400
    monkeypatch.setattr(cache, "disk_free", lambda folder: free)
    first = run(dataroot)
    free -= 14_400
    second = run(dataroot)
    assert first.said == second.said
    assert first.said[0].startswith("cache: ")


def test_auto_keeps_no_images_without_space_and_says_so(dataroot, run, monkeypatch):
    monkeypatch.setattr(cache, "ram_free", lambda: 0)
    monkeypatch.setattr(cache, "disk_free", lambda folder: 0)
    result = run(dataroot)
    assert result.images is None
    assert result.said == [
        "images: decoded whenever they are drawn; kept decoded they would take 14.4 kB"
    ]


def test_more_images_than_fit_into_memory_are_refused_with_a_remedy(dataroot, run, monkeypatch):
    monkeypatch.setattr(cache, "ram_free", lambda: 1000)
    with pytest.raises(UserError, match="--cache ram.*use --cache disk or --cache off"):
        run(dataroot, cache="ram")


def test_a_cache_with_changed_pixels_is_not_opened(files, tmp_path):
    path = cache_path(tmp_path, tmp_path / "images", files, TRANSFORM)
    write_cache(path, decode_all(files, TRANSFORM))
    assert open_cache(path, files, TRANSFORM) is not None
    pixels = bytearray(path.read_bytes())
    pixels[100] ^= 1
    path.write_bytes(pixels)
    assert open_cache(path, files, TRANSFORM) is None
