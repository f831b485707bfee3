"""Training on tar files equals training on folders."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.running import TINY, train, wait_for
from support.tars import contents, pack, png, same, sharded, sources

from cyclegan.data.files.domains import check_domains
from cyclegan.data.loading.cache import cache_path, decode_all, with_cache
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.evaluation.compare import compare
from cyclegan.training.statistics.fixed_samples import FixedSamples

__all__ = ["png", "sharded"]

TRANSFORM = ImageTransform("resize_and_crop", 20, 16, True)


def test_the_samples_are_those_of_the_same_images_in_folders(dataroot, sharded):
    ours, theirs = (
        UnpairedImages((A.files, B.files), (TRANSFORM, TRANSFORM), seed=3)
        for A, B in (check_domains(sources(root)) for root in (sharded, dataroot))
    )
    for position in (0, 1, 6, 7, 23):
        assert np.array_equal(ours[position].A.pixels, theirs[position].A.pixels)
        assert np.array_equal(ours[position].B.pixels, theirs[position].B.pixels)


def test_an_unreadable_member_is_named_with_its_tar_file(sharded):
    A, B = check_domains(sources(sharded))
    images = UnpairedImages((A.files, B.files), (TRANSFORM, TRANSFORM), seed=0, serial=True)
    path = A.files[0].shard.path
    content = path.read_bytes().replace(b"IDAT", b"damn")
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    broken = images[0].broken
    assert str(next(iter(broken))) == f"{path}!000.png"


@pytest.mark.parametrize("own", [False, True], ids=["beside the images", "in a folder of its own"])
def test_decoded_images_of_tar_files_are_kept_on_disk_for_each_domain(
    dataroot, sharded, tmp_path, own
):
    # The tar files of both domains lie in one folder, as webdataset writes them.
    for path in (sharded / "trainA").iterdir():
        path.rename(sharded / f"trainA-{path.name}")
    (sharded / "trainA").rmdir()
    domains = check_domains(sources(sharded))
    dataset = UnpairedImages((domains[0].files, domains[1].files), (TRANSFORM, TRANSFORM), seed=0)
    cache_dir = tmp_path / "kept" if own else None
    ours = with_cache(dataset, domains, cache="disk", cache_dir=cache_dir).decoded
    theirs = [list(decode_all(d.files, TRANSFORM)) for d in check_domains(sources(dataroot))]
    assert all(map(same, ours, theirs))
    place = tmp_path / "kept" if own else sharded / ".cyclegan-cache"
    assert len(list(place.glob("*.images"))) == 2


def test_a_changed_tar_file_has_another_cache(sharded, png):
    def path() -> Path:
        A, _ = check_domains(sources(sharded))
        return cache_path(sharded, A.source, A.files, TRANSFORM)

    before = path()
    assert path() == before
    os.utime(sharded / "trainA/000000.tar", ns=(1, 1))
    assert path() != before


@pytest.mark.parametrize("top", ["", "images/deep/"])
def test_test_images_in_tar_files_are_previewed_and_compared(dataroot, sharded, top):
    files = {f"{top}{name}": content for name, content in contents(dataroot / "testB").items()}
    pack(sharded / "testB.tar", files)
    ours, theirs = sources(sharded), sources(dataroot)
    previews = [
        FixedSamples(
            *(each.scan(each.find("test", domain)).files for domain in "AB"),
            (TRANSFORM, TRANSFORM),
            count=4,
        )
        for each in (ours, theirs)
    ]
    assert same(previews[0].images_B, previews[1].images_B)
    results = [compare(s, lambda image: image) for s in (ours, theirs)]
    assert results[0] == results[1]
    assert results[0].psnr_input is not None


def test_tar_files_that_each_count_from_the_start_still_pair_up(dataroot, sharded):
    for part in ("testA", "testB"):
        (sharded / f"{part}.tar").unlink()
        for number, content in enumerate(contents(dataroot / part).values()):
            pack(sharded / f"{part}-{number}.tar", {"000.png": content})
    ours, theirs = (compare(sources(s), lambda image: image) for s in (sharded, dataroot))
    assert ours == theirs


def weights(tmp_path: Path, name: str) -> dict[str, torch.Tensor]:
    parts = {
        part: torch.load(tmp_path / f"runs/{name}/latest_net_{part}.pth", weights_only=True)
        for part in ("G_A", "G_B", "D_A", "D_B")
    }
    return {f"{part}.{key}": t for part, state in parts.items() for key, t in state.items()}


@pytest.mark.slow
def test_a_run_on_tar_files_equals_one_on_folders_even_after_a_kill(dataroot, sharded, tmp_path):
    options = ["--batch_size=2", "--steps=14", *TINY]
    whole = train(tmp_path, *options, f"--dataroot={dataroot}", "--name=whole", "--cache=disk")
    assert whole.returncode == 0, whole.stderr
    options += [f"--dataroot={sharded}", "--name=run", "--num_threads=2", "--cache=off"]
    killed = train(tmp_path, *options, "--save_every=3", popen=True)
    wait_for(tmp_path / "runs/run/state_00000003.pt", killed)
    killed.kill()
    killed.communicate()
    resumed = train(tmp_path, "--name=run", "--continue_train")
    assert resumed.returncode == 0, resumed.stderr
    assert "trainB-*.tar (in 3 tar files)" in resumed.stdout
    ours, theirs = weights(tmp_path, "run"), weights(tmp_path, "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    figures = [tmp_path / f"runs/{name}/evaluation.json" for name in ("run", "whole")]
    assert figures[0].read_text() == figures[1].read_text()


def test_a_compressed_tar_file_is_one_line_and_exit_status_2(sharded, tmp_path):
    (sharded / "trainA/x.tar.gz").write_bytes(b"")
    done = train(tmp_path, f"--dataroot={sharded}", *TINY)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "x.tar.gz is compressed" in done.stderr
