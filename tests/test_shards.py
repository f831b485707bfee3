"""Images in tar files: found as in folders, read from their places, and streamed in exact order."""

import io
import json
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from running import TINY, train, wait_for

from cyclegan.data import reading, shards
from cyclegan.data.augment import Preparation
from cyclegan.data.cache import cache_path
from cyclegan.data.decoded import decode_once
from cyclegan.data.folders import check_domains
from cyclegan.data.images import UnreadableImage, image_size, read_image
from cyclegan.data.places import find_files
from cyclegan.data.reading import Member
from cyclegan.data.unpaired import UnpairedImages
from cyclegan.errors import UserError
from cyclegan.evaluation.compare import compare
from cyclegan.settings import TrainSettings, check
from cyclegan.training.probe import Probe

PREPARE = Preparation("resize_and_crop", 20, 16, True)


def pack(path: Path, files: dict[str, bytes], *, format: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def found(place: Path, *, keep: Path | None = None) -> list[str]:
    return [str(file).removeprefix(f"{place}/") for file in find_files(place, keep=keep).files]


def settings(root: Path, **options) -> TrainSettings:
    return check(TrainSettings, {"dataroot": root, **options})


def refusal(root: Path | None, **options) -> str:
    with pytest.raises(UserError) as caught:
        check_domains(settings(root, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(first, second) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


@pytest.fixture
def png(picture):
    """The bytes of a small image."""

    def make(seed: int = 0) -> bytes:
        stream = io.BytesIO()
        picture(seed=seed).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def sharded(dataroot, tmp_path):
    """The images of `dataroot` in tar files: trainA in two in a folder, trainB in three beside it,
    testA and testB in one each.
    """
    root = tmp_path / "sharded"
    for part, ends in {"trainA": (3, 5), "trainB": (2, 4, 7), "testA": (2,), "testB": (2,)}.items():
        files = list(contents(dataroot / part).items())
        for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
            name = {
                "trainA": f"trainA/{number:06}.tar",
                "trainB": f"trainB-{number:06}.tar",
            }.get(part, f"{part}.tar")
            pack(root / name, dict(files[start:end]))
    return root


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_is_the_image_that_was_packed(tmp_path, png, picture, format):
    long = f"{'a' * 90}/{'b' * 90}.png"
    names = ["x.png", "d/y.PNG", long]
    if format != tarfile.USTAR_FORMAT:
        names += [f"{'c' * 300}.png", "d/\u00fc .png"]
    path = pack(tmp_path / "s.tar", {n: png(i) for i, n in enumerate(names)}, format=format)
    members = find_files(path, keep=None).files
    assert {member.inside for member in members} == set(names)
    for member in members:
        image = read_image(member)
        assert np.array_equal(image, picture(seed=names.index(member.inside)))
        assert image_size(member) == image.size == (48, 40)


def test_only_images_are_taken_and_no_hidden_ones(tmp_path, png):
    names = ["./a.jpg", "a.json", "a.cls", "b/._c.png", ".d/e.png", "._a.jpg", "f.txt", "b/g.WEBP"]
    pack(tmp_path / "s.tar", {name: png() for name in names})
    assert found(tmp_path) == ["s.tar!a.jpg", "s.tar!b/g.WEBP"]


def test_links_devices_folders_and_sparse_members_are_passed_over(tmp_path, png):
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


def test_of_two_members_of_one_name_the_last_is_taken_as_unpacking_would(tmp_path, png, picture):
    pack(tmp_path / "s.tar", {"x.png": png(1)})
    with tarfile.open(tmp_path / "s.tar", "a") as tar:
        info = tarfile.TarInfo("./x.png")
        info.size = len(png(2))
        tar.addfile(info, io.BytesIO(png(2)))
    (member,) = find_files(tmp_path, keep=None).files
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
def test_the_places_that_a_domain_may_be(sharded, tmp_path, way):
    options = {"dir_A": sharded / "trainA", "dir_B": sharded / "trainB-*.tar"}
    if way == "links":
        (tmp_path / "disk").mkdir()
        for path in (sharded / "trainA").iterdir():
            shutil.move(path, tmp_path / "disk")
            path.symlink_to(tmp_path / "disk" / path.name)
    if way == "one file":
        options["dir_A"] = sharded / "trainA/000000.tar"
    A, B = check_domains(settings(None if way != "links" else sharded, **options))
    assert (len(A.files), len(B.files)) == (3 if way == "one file" else 5, 7)
    many = "3 images" if way == "one file" else "5 images"
    assert A.describe("A").startswith(f"A: {many} of 52x44 px in {options['dir_A']} (in ")


def test_the_domains_say_how_much_of_them_is_in_tar_files(sharded, make_images):
    make_images(sharded / "trainA/more", 2, size=(52, 44))
    A, B = check_domains(settings(sharded))
    where = sharded / "trainA"
    assert A.describe("A") == f"A: 7 images of 52x44 px in {where} (5 of them in 2 tar files)"
    where = sharded / "trainB-*.tar"
    assert B.describe("B") == f"B: 7 images of 52x44 px in {where} (in 3 tar files)"
    assert A.complaints() == B.complaints() == []
    A, _ = check_domains(settings(sharded, max_dataset_size=1))
    assert A.describe("A").endswith(f"{sharded / 'trainA'} (in 1 tar file)")


def test_only_the_first_images_are_used_where_that_is_asked(sharded):
    A, B = check_domains(settings(sharded, max_dataset_size=4))
    assert [file.name for file in A.files] == [f"{i:03}.png" for i in range(4)]
    assert len(B.files) == 4


def test_tar_files_beside_a_folder_of_their_name_are_named_and_not_looked_into(dataroot, sharded):
    shutil.copy(sharded / "trainA/000000.tar", dataroot / "trainA.tar")
    shutil.copy(sharded / "trainA/000000.tar", dataroot / "trainA-0.tar")
    A, _ = check_domains(settings(dataroot))
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


def test_compressed_tar_files_in_place_of_folders_are_refused_by_name(sharded):
    for path in sharded.glob("trainB-*"):
        path.rename(path.with_suffix(".tar.gz"))
    assert "trainB-000000.tar.gz is compressed" in refusal(sharded)
    assert "x.tgz is not a folder" in refusal(None, dir_A=sharded / "x.tgz", dir_B=sharded)


def test_what_is_not_there_is_named(sharded):
    missing = sharded / "nosuch-*.tar"
    message = refusal(None, dir_A=missing, dir_B=sharded)
    assert message == f"--dir_A {missing} is not there: check the path"
    for path in sharded.glob("trainB-*"):
        path.unlink()
    assert "has no folder trainB or B (folders there: trainA), nor trainB-*.tar" in refusal(sharded)
    assert "holds no images" in refusal(None, dir_A=pack(sharded / "x.tar", {}), dir_B=sharded)


@pytest.mark.parametrize("whole", [True, False], ids=["decoded", "by headers"])
def test_of_a_truncated_tar_file_the_whole_members_are_used(sharded, monkeypatch, whole):
    if not whole:
        monkeypatch.setattr("cyclegan.data.folders.FULL_CHECK_BYTES", 0)
    path = sharded / "trainA/000000.tar"
    last = find_files(path, keep=None).files[-1]
    path.write_bytes(path.read_bytes()[: last.offset + last.size - 50])
    A, _ = check_domains(settings(sharded))
    assert [file.name for file in A.files] == ["000.png", "001.png", "003.png", "004.png"]
    assert A.complaints() == [
        "skipped as unreadable: 002.png (cut short, as is its tar file)",
        "used as far as it is whole: 000000.tar (cut short)",
    ]


def test_a_tar_file_may_end_anywhere(tmp_path, png):
    content = pack(tmp_path / "s.tar", {"a.png": png(), "b.png": png(1)}).read_bytes()
    ends = [f.offset + f.size for f in find_files(tmp_path, keep=None).files]
    for length in range(0, len(content), 97):
        (tmp_path / "s.tar").write_bytes(content[:length])
        there = find_files(tmp_path, keep=None)
        whole = [f for f in there.files if f.offset + f.size <= length]
        assert len(whole) == sum(end <= length for end in ends)
        # Of tar's last record of 10,240 bytes only its first block is missed.
        padded = -(-ends[-1] // 512) * 512
        assert (there.problems == {}) == (length >= padded + 512), length
        for member in whole:
            read_image(member)


def test_damage_in_the_middle_is_named_where_tar_readers_stop_without_a_word(tmp_path, png):
    path = pack(tmp_path / "s.tar", {"a.png": png(), "b.png": png(), "c.png": png()})
    content = bytearray(path.read_bytes())
    place = find_files(tmp_path, keep=None).files[1].offset - 512
    content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)
    there = find_files(tmp_path, keep=None)
    assert [file.name for file in there.files] == ["a.png"]
    assert there.problems == {path: f"damaged at byte {place}"}


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty file"), (b"hello" * 500, "not a tar file"), (None, "No such file or directory")],
)
def test_what_is_no_tar_file_is_named_and_the_others_are_used(sharded, content, why):
    path = sharded / "trainA/x.tar"
    if content is None:
        path.symlink_to(sharded / "nosuch")
    else:
        path.write_bytes(content)
    A, _ = check_domains(settings(sharded))
    assert len(A.files) == 5
    assert A.complaints() == [f"skipped as unreadable: x.tar ({why})"]


def test_broken_members_are_named_once_and_left_out(sharded, png):
    pack(sharded / "trainA/x.tar", {"t.jpg": b"hello", "e.png": b"", "c.png": png()[:-99]})
    A, _ = check_domains(settings(sharded))
    assert len(A.files) == 5
    assert "t.jpg (not an image)" in A.complaints()[0]
    assert "e.png (empty file)" in A.complaints()[0]
    assert "c.png (" in A.complaints()[0]


def test_a_member_is_read_up_to_its_end_and_not_beyond(tmp_path, png):
    cut = png()[: len(png()) // 2]
    pack(tmp_path / "s.tar", {"a.png": cut, "b.png": png()})
    first, second = find_files(tmp_path, keep=None).files
    with pytest.raises(UnreadableImage):
        read_image(first)
    with reading.open_file(second) as stream:
        stream.seek(-8, os.SEEK_END)
        assert stream.read() == png()[-8:]


def test_a_tar_file_that_changes_in_mid_run_gives_no_other_images(tmp_path, png):
    path = pack(tmp_path / "s.tar", {"a.png": png()})
    (member,) = find_files(tmp_path, keep=None).files
    pack(path, {"b.png": png(1), "c.png": png(2)})
    with pytest.raises(UnreadableImage, match="has changed"):
        read_image(member)


def test_one_place_in_a_tar_file_is_opened_once_for_all_its_images(tmp_path, png, monkeypatch):
    pack(tmp_path / "s.tar", {f"{i}.png": png() for i in range(5)})
    members = find_files(tmp_path, keep=None).files
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args) or real(*args))
    for member in members:
        read_image(member)
    assert len(opened) == 1


def test_more_tar_files_than_may_be_open_are_read_and_closed(tmp_path, png, monkeypatch):
    few = reading.lru_cache(3)(reading._open_shard.__wrapped__)
    monkeypatch.setattr(reading, "_open_shard", few)
    for index in range(20):
        pack(tmp_path / f"{index:02}.tar", {"a.png": png(index)})
    members = find_files(tmp_path, keep=None).files
    opened, closed, real_open, real_close = [], [], os.open, os.close
    monkeypatch.setattr(os, "open", lambda *args: opened.append(real_open(*args)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda number: closed.append(number) or real_close(number))
    for member in members * 2:
        read_image(member)
    assert len(opened) == 40
    assert len(closed) == 37


def _levels(member: Member) -> np.ndarray:
    return np.asarray(read_image(member))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_members_go_to_other_processes_and_are_read_there(sharded, start):
    members = [file for domain in check_domains(settings(sharded)) for file in domain.files]
    assert pickle.loads(pickle.dumps(members)) == members
    expected = [_levels(member) for member in members]
    with ProcessPoolExecutor(2, mp_context=get_context(start)) as pool:
        assert same(list(pool.map(_levels, members * 5)), expected * 5)


def test_threads_read_one_tar_file_at_once(tmp_path, png):
    pack(tmp_path / "s.tar", {f"{i:02}.png": png(i) for i in range(20)})
    members = find_files(tmp_path, keep=None).files * 10
    with ThreadPoolExecutor(8) as pool:
        assert same(list(pool.map(_levels, members)), [_levels(member) for member in members])


def test_the_samples_are_those_of_the_same_images_in_folders(dataroot, sharded):
    ours, theirs = (
        UnpairedImages(A.files, B.files, (PREPARE, PREPARE), seed=3)
        for A, B in (check_domains(settings(root)) for root in (sharded, dataroot))
    )
    for position in (0, 1, 6, 7, 23):
        assert np.array_equal(ours[position].levels_A, theirs[position].levels_A)
        assert np.array_equal(ours[position].levels_B, theirs[position].levels_B)


def test_a_member_that_breaks_in_mid_run_is_named_by_both_its_names(sharded):
    A, B = check_domains(settings(sharded))
    images = UnpairedImages(A.files, B.files, (PREPARE, PREPARE), seed=0, serial=True)
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
    # Both domains beside one another, as webdataset writes them.
    for path in (sharded / "trainA").iterdir():
        path.rename(sharded / f"trainA-{path.name}")
    (sharded / "trainA").rmdir()
    options = {"cache": "disk", "load_size": 20, "crop_size": 16}
    options |= {"cache_dir": tmp_path / "kept"} if own else {}
    runs = settings(sharded, **options), settings(dataroot, load_size=20, crop_size=16)
    ours, theirs = (
        decode_once(check_domains(run), (PREPARE, PREPARE), run, say=str) for run in runs
    )
    assert all(map(same, ours, theirs))
    place = tmp_path / "kept" if own else sharded / ".cyclegan-cache"
    assert len(list(place.glob("*.images"))) == 2


def test_a_cache_is_of_another_name_where_a_tar_file_has_changed(sharded, png):
    def path() -> Path:
        A, _ = check_domains(settings(sharded))
        return cache_path(sharded, A.folder, A.files, PREPARE)

    before = path()
    assert path() == before
    os.utime(sharded / "trainA/000000.tar", ns=(1, 1))
    assert path() != before


@pytest.fixture
def kept(tmp_path, png, monkeypatch):
    """A folder with the kept index of a tar file, of three images, and what finds them."""
    monkeypatch.setattr(shards, "WORTH_KEEPING", 3)
    pack(tmp_path / "s.tar", {f"{i}.png": png(i) for i in range(3)})
    pack(tmp_path / "small.tar", {"x.png": png()})
    expected = find_files(tmp_path, keep=tmp_path / "kept").files
    (path,) = (tmp_path / "kept").iterdir()
    return path, lambda: find_files(tmp_path, keep=tmp_path / "kept").files == expected


def test_the_index_of_a_large_tar_file_is_read_instead_of_its_headers(kept, monkeypatch):
    _, is_right = kept
    looked = []
    real = shards._look_through
    monkeypatch.setattr(
        shards, "_look_through", lambda shard, p: looked.append(shard.path.name) or real(shard, p)
    )
    assert is_right()
    assert looked == ["small.tar"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-5],
        lambda text: "[]",
        lambda text: text.replace('"members"', '"x"'),
        lambda text: text.replace("[[", "[7, ["),
        lambda text: json.dumps({**json.loads(text), "members": [["a", "b", "c"]]}),
    ],
)
def test_a_damaged_index_is_made_anew(kept, damage):
    path, is_right = kept
    whole = path.read_text()
    path.write_text(damage(whole))
    assert is_right()
    assert path.read_text() == whole


def test_an_index_of_another_state_of_the_tar_file_is_not_used(kept, tmp_path, png):
    pack(tmp_path / "s.tar", {f"{i}.png": png(i) for i in range(4)})
    assert len(find_files(tmp_path, keep=tmp_path / "kept").files) == 5


def test_without_a_place_for_the_index_all_is_as_it_was(kept, tmp_path):
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").write_text("a file")
    assert kept[1]()


def test_no_index_is_kept_where_nothing_is_to_be(sharded, monkeypatch):
    monkeypatch.setattr(shards, "WORTH_KEEPING", 1)
    check_domains(settings(sharded, cache="off"))
    assert not list(sharded.rglob(".cyclegan-cache"))
    check_domains(settings(sharded))
    places = {path.parent for path in sharded.rglob("*.index.json")}
    assert places == {sharded / ".cyclegan-cache", sharded / "trainA/.cyclegan-cache"}


@pytest.mark.parametrize("top", ["", "images/deep/"])
def test_test_images_in_tar_files_are_previewed_and_measured(dataroot, sharded, top):
    files = {f"{top}{name}": content for name, content in contents(dataroot / "testB").items()}
    pack(sharded / "testB.tar", files)
    ours, theirs = settings(sharded), settings(dataroot)
    domains = check_domains(ours)
    previews = [
        Probe(s, domains[0].files, domains[1].files, (PREPARE, PREPARE)) for s in (ours, theirs)
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
    ours, theirs = (compare(settings(s), lambda image: image) for s in (sharded, dataroot))
    assert ours == theirs


def weights(tmp_path: Path, name: str) -> dict[str, torch.Tensor]:
    parts = {
        part: torch.load(tmp_path / f"runs/{name}/latest_net_{part}.pth", weights_only=True)
        for part in ("G_A", "G_B", "D_A", "D_B")
    }
    return {f"{part}.{key}": t for part, state in parts.items() for key, t in state.items()}


def assert_same_weights(tmp_path: Path, first: str, second: str) -> None:
    ours, theirs = weights(tmp_path, first), weights(tmp_path, second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["off", "disk"])
def test_a_run_on_tar_files_equals_the_run_on_folders_killed_and_resumed_too(
    dataroot, sharded, tmp_path, cache
):
    options = ["--batch_size=2", "--steps=14", f"--cache={cache}", *TINY]
    whole = train(tmp_path, f"--dataroot={dataroot}", "--name=whole", *options)
    assert whole.returncode == 0, whole.stderr

    options += [f"--dataroot={sharded}", "--save_every=3", "--num_threads=2"]
    through = train(tmp_path, "--name=through", *options)
    assert through.returncode == 0, through.stderr
    assert "trainB-*.tar (in 3 tar files)" in through.stdout
    assert_same_weights(tmp_path, "through", "whole")
    figures = [tmp_path / f"runs/{name}/evaluation.json" for name in ("through", "whole")]
    assert figures[0].read_text() == figures[1].read_text()

    killed = train(tmp_path, "--name=run", *options, popen=True)
    wait_for(tmp_path / "runs/run/state_00000003.pt", killed)
    killed.kill()
    killed.communicate()
    resumed = train(tmp_path, "--name=run", "--continue_train")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(tmp_path, "run", "whole")


def test_a_compressed_tar_file_is_one_line_and_exit_status_2(sharded, tmp_path):
    (sharded / "trainA/x.tar.gz").write_bytes(b"")
    done = train(tmp_path, f"--dataroot={sharded}", *TINY)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "x.tar.gz is compressed" in done.stderr
