"""Images in tar files: found as in folders."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from support.tars import found, pack, png, sharded, sources

from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.images import image_size, read_image
from cyclegan.data.files.sources import scan_source

__all__ = ["png", "sharded"]


def refusal(root: Path | None, **options) -> str:
    with pytest.raises(UserError) as caught:
        check_domains(sources(root, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_is_the_image_that_was_packed(tmp_path, png, picture, format):
    long = f"{'a' * 90}/{'b' * 90}.png"
    names = ["x.png", "d/y.PNG", long]
    if format != tarfile.USTAR_FORMAT:
        names += [f"{'c' * 300}.png", "d/\u00fc .png"]
    path = pack(tmp_path / "s.tar", {n: png(i) for i, n in enumerate(names)}, format=format)
    members = scan_source(path, index_dir=None).files
    assert {member.inner_path for member in members} == set(names)
    for member in members:
        image = read_image(member)
        assert np.array_equal(image, picture(seed=names.index(member.inner_path)))
        assert image_size(member) == image.size == (48, 40)


def test_only_visible_images_are_found(tmp_path, png):
    names = ["./a.jpg", "a.json", "a.cls", "b/._c.png", ".d/e.png", "._a.jpg", "f.txt", "b/g.WEBP"]
    pack(tmp_path / "s.tar", {name: png() for name in names})
    assert found(tmp_path) == ["s.tar!a.jpg", "s.tar!b/g.WEBP"]


def test_links_devices_folders_and_sparse_members_are_ignored(tmp_path, png):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, "x.png"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        sparse = tarfile.TarInfo("sparse.png")
        sparse.pax_headers = {"GNU.sparse.size": "9", "GNU.sparse.map": "0,1"}
        tar.addfile(sparse)
        info = tarfile.TarInfo("x.png")
        info.size = len(png())
        tar.addfile(info, io.BytesIO(png()))
    assert found(tmp_path) == ["s.tar!x.png"]


def test_the_last_of_two_members_with_one_name_is_taken_as_by_unpacking(tmp_path, png, picture):
    pack(tmp_path / "s.tar", {"x.png": png(1)})
    with tarfile.open(tmp_path / "s.tar", "a") as tar:
        info = tarfile.TarInfo("./x.png")
        info.size = len(png(2))
        tar.addfile(info, io.BytesIO(png(2)))
    (member,) = scan_source(tmp_path, index_dir=None).files
    assert np.array_equal(read_image(member), picture(seed=2))


def test_tar_files_are_sorted_among_files_as_folders_of_their_names_would_be(tmp_path, png):
    pack(tmp_path / "b.tar", {"z.png": png(), "a/2.png": png(), "a.png": png()})
    pack(tmp_path / "d/c.TAR", {"1.png": png()})
    for name in ("a.png", "b.png", "e.png"):
        (tmp_path / name).write_bytes(png())
    assert found(tmp_path) == [
        "a.png",
        "b.png",
        *("b.tar!a/2.png", "b.tar!a.png", "b.tar!z.png"),
        "d/c.TAR!1.png",
        "e.png",
    ]


def test_a_folder_named_like_a_tar_file_is_a_folder(tmp_path, make_images):
    make_images(tmp_path / "x.tar", 1)
    assert found(tmp_path) == ["x.tar/000.png"]


@pytest.mark.parametrize("way", ["links", "one file", "folder", "pattern"])
def test_a_domain_may_be_any_kind_of_source(sharded, tmp_path, way):
    options = {"dir_A": sharded / "trainA", "dir_B": sharded / "trainB-*.tar"}
    if way == "links":
        (tmp_path / "disk").mkdir()
        for path in (sharded / "trainA").iterdir():
            shutil.move(path, tmp_path / "disk")
            path.symlink_to(tmp_path / "disk" / path.name)
    if way == "one file":
        options["dir_A"] = sharded / "trainA/000000.tar"
    A, B = check_domains(sources(None if way != "links" else sharded, **options))
    assert (len(A.files), len(B.files)) == (3 if way == "one file" else 5, 7)
    many = "3 images" if way == "one file" else "5 images"
    assert A.describe("A").startswith(f"A: {many} of 52x44 px in {options['dir_A']} (in ")


def test_the_description_counts_the_images_in_tar_files(sharded, make_images):
    make_images(sharded / "trainA/more", 2, size=(52, 44))
    A, B = check_domains(sources(sharded))
    where = sharded / "trainA"
    assert A.describe("A") == f"A: 7 images of 52x44 px in {where} (5 of them in 2 tar files)"
    where = sharded / "trainB-*.tar"
    assert B.describe("B") == f"B: 7 images of 52x44 px in {where} (in 3 tar files)"
    assert A.complaints() == B.complaints() == []
    A, _ = check_domains(sources(sharded, max_dataset_size=1))
    assert A.describe("A").endswith(f"{sharded / 'trainA'} (in 1 tar file)")


def test_max_dataset_size_uses_the_first_images(sharded):
    A, B = check_domains(sources(sharded, max_dataset_size=4))
    assert [file.name for file in A.files] == [f"{i:03}.png" for i in range(4)]
    assert len(B.files) == 4


def test_tar_files_beside_a_folder_of_their_name_are_reported_and_ignored(dataroot, sharded):
    shutil.copy(sharded / "trainA/000000.tar", dataroot / "trainA.tar")
    shutil.copy(sharded / "trainA/000000.tar", dataroot / "trainA-0.tar")
    A, _ = check_domains(sources(dataroot))
    assert len(A.files) == 5
    there = f"({dataroot / 'trainA'} is there)"
    assert A.complaints() == [f"not looked into: trainA.tar {there}, trainA-*.tar {there}"]


@pytest.mark.parametrize(
    ("name", "tool"),
    [("x.tar.gz", "gunzip"), ("x.TGZ", "gunzip"), ("x.tar.zst", "unzstd"), ("x.tar.xz", "unxz")],
)
def test_a_compressed_tar_file_is_refused_with_the_remedy(sharded, name, tool):
    (sharded / "trainA" / name).write_bytes(b"anything")
    message = refusal(sharded)
    assert message.startswith(f"{sharded / 'trainA' / name} is compressed")
    assert f"decompress it ({tool})" in message


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_tar_file_that_is_compressed_despite_its_name_is_refused(sharded, png, mode):
    with tarfile.open(sharded / "trainA/x.tar", f"w:{mode}") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
    assert "x.tar is compressed" in refusal(sharded)


def test_compressed_tar_files_in_place_of_folders_are_refused(sharded):
    for path in sharded.glob("trainB-*"):
        path.rename(path.with_suffix(".tar.gz"))
    assert "trainB-000000.tar.gz is compressed" in refusal(sharded)
    assert "x.tgz is not a folder" in refusal(None, dir_A=sharded / "x.tgz", dir_B=sharded)


def test_a_missing_tar_file_is_named(sharded):
    missing = sharded / "nosuch-*.tar"
    message = refusal(None, dir_A=missing, dir_B=sharded)
    assert message == f"--dir_A {missing} is not there: check the path"
    for path in sharded.glob("trainB-*"):
        path.unlink()
    assert "has no folder trainB or B (folders there: trainA), nor trainB-*.tar" in refusal(sharded)
    assert "holds no images" in refusal(None, dir_A=pack(sharded / "x.tar", {}), dir_B=sharded)
