"""Images read in place from complete and damaged tar files, also by many at once."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from support.tars import pack, png, same, sharded, sources

from cyclegan.data.files import reading
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import TarMember
from cyclegan.data.files.sources import scan_source

__all__ = ["png", "sharded"]


@pytest.mark.parametrize("whole", [True, False], ids=["decoded", "by headers"])
def test_the_complete_members_of_a_truncated_tar_file_are_used(sharded, monkeypatch, whole):
    if not whole:
        monkeypatch.setattr("cyclegan.data.files.domains.FULL_CHECK_BYTES", 0)
    path = sharded / "trainA/000000.tar"
    last = scan_source(path, index_dir=None).files[-1]
    path.write_bytes(path.read_bytes()[: last.offset + last.size - 50])
    A, _ = check_domains(sources(sharded))
    assert [file.name for file in A.files] == ["000.png", "001.png", "003.png", "004.png"]
    assert A.complaints() == [
        "skipped as unreadable: 002.png (cut short, as is its tar file)",
        "used as far as it is whole: 000000.tar (cut short)",
    ]


def test_a_tar_file_may_end_anywhere(tmp_path, png):
    content = pack(tmp_path / "s.tar", {"a.png": png(), "b.png": png(1)}).read_bytes()
    ends = [f.offset + f.size for f in scan_source(tmp_path, index_dir=None).files]
    for length in range(0, len(content), 97):
        (tmp_path / "s.tar").write_bytes(content[:length])
        there = scan_source(tmp_path, index_dir=None)
        whole = [f for f in there.files if f.offset + f.size <= length]
        assert len(whole) == sum(end <= length for end in ends)
        # Only the first block of tar's last record of 10,240 bytes is needed.
        padded = -(-ends[-1] // 512) * 512
        assert (there.problems == {}) == (length >= padded + 512), length
        for member in whole:
            read_image(member)


def test_damage_in_the_middle_is_reported_although_tarfile_stops_silently(tmp_path, png):
    path = pack(tmp_path / "s.tar", {"a.png": png(), "b.png": png(), "c.png": png()})
    content = bytearray(path.read_bytes())
    place = scan_source(tmp_path, index_dir=None).files[1].offset - 512
    content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)
    there = scan_source(tmp_path, index_dir=None)
    assert [file.name for file in there.files] == ["a.png"]
    assert there.problems == {path: f"damaged at byte {place}"}


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty file"), (b"hello" * 500, "not a tar file"), (None, "No such file or directory")],
)
def test_a_file_that_is_no_tar_file_is_reported_and_the_others_are_used(sharded, content, why):
    path = sharded / "trainA/x.tar"
    if content is None:
        path.symlink_to(sharded / "nosuch")
    else:
        path.write_bytes(content)
    A, _ = check_domains(sources(sharded))
    assert len(A.files) == 5
    assert A.complaints() == [f"skipped as unreadable: x.tar ({why})"]


def test_broken_members_are_named_once_and_left_out(sharded, png):
    pack(sharded / "trainA/x.tar", {"t.jpg": b"hello", "e.png": b"", "c.png": png()[:-99]})
    A, _ = check_domains(sources(sharded))
    assert len(A.files) == 5
    assert "t.jpg (not an image)" in A.complaints()[0]
    assert "e.png (empty file)" in A.complaints()[0]
    assert "c.png (" in A.complaints()[0]


def test_a_member_is_read_up_to_its_end_and_not_beyond(tmp_path, png):
    cut = png()[: len(png()) // 2]
    pack(tmp_path / "s.tar", {"a.png": cut, "b.png": png()})
    first, second = scan_source(tmp_path, index_dir=None).files
    with pytest.raises(UnreadableImage):
        read_image(first)
    with reading.open_file(second) as stream:
        stream.seek(-8, os.SEEK_END)
        assert stream.read() == png()[-8:]


def test_a_tar_file_that_changes_during_a_run_is_unreadable(tmp_path, png):
    path = pack(tmp_path / "s.tar", {"a.png": png()})
    (member,) = scan_source(tmp_path, index_dir=None).files
    pack(path, {"b.png": png(1), "c.png": png(2)})
    with pytest.raises(UnreadableImage, match="has changed"):
        read_image(member)


def test_a_tar_file_is_opened_once_for_all_its_images(tmp_path, png, monkeypatch):
    pack(tmp_path / "s.tar", {f"{i}.png": png() for i in range(5)})
    members = scan_source(tmp_path, index_dir=None).files
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
    members = scan_source(tmp_path, index_dir=None).files
    opened, closed, real_open, real_close = [], [], os.open, os.close
    monkeypatch.setattr(os, "open", lambda *args: opened.append(real_open(*args)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda number: closed.append(number) or real_close(number))
    for member in members * 2:
        read_image(member)
    assert len(opened) == 40
    assert len(closed) == 37


def _pixels(member: TarMember) -> np.ndarray:
    return np.asarray(read_image(member))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_members_go_to_other_processes_and_are_read_there(sharded, start):
    members = [file for domain in check_domains(sources(sharded)) for file in domain.files]
    assert pickle.loads(pickle.dumps(members)) == members
    expected = [_pixels(member) for member in members]
    with ProcessPoolExecutor(2, mp_context=get_context(start)) as pool:
        assert same(list(pool.map(_pixels, members * 5)), expected * 5)


def test_threads_read_one_tar_file_at_once(tmp_path, png):
    pack(tmp_path / "s.tar", {f"{i:02}.png": png(i) for i in range(20)})
    members = scan_source(tmp_path, index_dir=None).files * 10
    with ThreadPoolExecutor(8) as pool:
        assert same(list(pool.map(_pixels, members)), [_pixels(member) for member in members])
