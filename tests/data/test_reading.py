"""Reading from drives that fail for a moment or for good."""

import errno
import os
import tarfile

import numpy as np
import pytest

from cyclegan.config.errors import UserError
from cyclegan.data.files import reading
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.images import UnreadableImage, image_size, read_image
from cyclegan.data.files.reading import (
    MAX_CONSECUTIVE_FAILURES,
    RETRY_WAITS,
    RetryPolicy,
    open_file,
)
from cyclegan.data.files.sources import DataSources, scan_source
from cyclegan.data.loading.cache import cache_path, decode_all
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.transforms import ImageTransform

TRANSFORM = ImageTransform("resize_and_crop", 20, 16, True)


@pytest.fixture
def waited(monkeypatch):
    """The seconds that the code asked to sleep, which take no time here."""
    seconds: list[float] = []
    monkeypatch.setattr(reading.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def failing(monkeypatch, waited):
    """Makes calls of os.open or os.pread fail: so many times, with this error."""

    def fail(name: str, number: int, times: float) -> list[int]:
        real, left, calls = getattr(os, name), [times], []

        def call(*args):
            calls.append(1)
            if left[0] > 0:
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return real(*args)

        monkeypatch.setattr(os, name, call)
        return calls

    return fail


@pytest.fixture
def image(tmp_path, make_images):
    """Gives an image of the same pixels, as a file or in a tar file."""
    (path,) = make_images(tmp_path / "images", 1)

    def make(kind: str):
        if kind == "file":
            return path
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            tar.add(path, "000.png")
        return scan_source(tmp_path / "s.tar", index_dir=None).files[0]

    return make


@pytest.mark.parametrize("kind", ["file", "member"])
@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
def test_a_read_is_retried_after_a_transient_error(
    image, picture, failing, waited, kind, call, number
):
    file = image(kind)
    failing(call, number, 3)
    assert np.array_equal(read_image(file), picture(seed=0))
    assert waited == list(RETRY_WAITS)
    failing(call, number, 1)
    assert image_size(file) == (48, 40)


@pytest.mark.parametrize("kind", ["file", "member"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_an_error_that_persists_makes_the_image_unreadable(image, failing, waited, kind, read):
    file = image(kind)
    failing("pread", errno.EIO, float("inf"))
    with pytest.raises(UnreadableImage, match="Input/output error"):
        read(file)
    assert waited == list(RETRY_WAITS)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ELOOP])
def test_a_permanent_error_is_not_retried(image, failing, waited, number):
    failing("open", number, 1)
    with pytest.raises(UnreadableImage):
        read_image(image("file"))
    assert waited == []


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_damaged_content_is_not_retried(tmp_path, waited, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UnreadableImage):
        read_image(tmp_path / "x.png")
    assert waited == []


@pytest.mark.parametrize("kind", ["file", "member"])
def test_a_stale_file_handle_is_reopened(image, failing, waited, kind):
    with open_file(image(kind)) as stream:
        opened = failing("open", errno.EIO, 0)
        failing("pread", errno.ESTALE, 2)
        assert stream.read(4) == b"\x89PNG"
        stream.seek(1)
        assert stream.read(3) == b"PNG"
    assert len(opened) == 2


@pytest.mark.parametrize("kind", ["file", "member"])
def test_a_file_too_large_to_be_read_at_once_is_the_same_image(image, picture, monkeypatch, kind):
    monkeypatch.setattr(reading, "MAX_BUFFERED_BYTES", 100)
    assert np.array_equal(read_image(image(kind)), picture(seed=0))


def test_reads_from_a_lost_drive_are_not_retried(waited):
    def gone():
        raise OSError(errno.ENOTCONN, "gone")

    retry = RetryPolicy()
    for _ in range(100):
        with pytest.raises(OSError, match="gone"):
            retry.call(gone)
    assert len(waited) == MAX_CONSECUTIVE_FAILURES * len(RETRY_WAITS)
    assert retry.call(lambda: 7) == 7
    with pytest.raises(OSError, match="gone"):
        retry.call(gone)
    assert len(waited) == (MAX_CONSECUTIVE_FAILURES + 1) * len(RETRY_WAITS)


def test_a_run_on_a_lost_drive_ends_soon_with_a_message(dataroot, make_images, failing, waited):
    files = make_images(dataroot / "many", 30)
    images = UnpairedImages((files, files), (TRANSFORM, TRANSFORM), seed=0)
    failing("open", errno.EHOSTDOWN, float("inf"))
    with pytest.raises(UserError, match="check the disk"):
        images[0]
    assert len(waited) == MAX_CONSECUTIVE_FAILURES * len(RETRY_WAITS)


def test_an_unreliable_drive_changes_no_result(dataroot, monkeypatch, waited):
    sources = DataSources(dataroot=dataroot)
    A, B = check_domains(sources)
    decoded = list(decode_all(A.files, TRANSFORM))
    name = cache_path(dataroot, A.source, A.files, TRANSFORM)
    random, real = np.random.default_rng(0), {name: getattr(os, name) for name in ("open", "pread")}

    def flaky(name):
        def call(*args):
            if random.random() < 0.2:
                raise OSError(errno.EIO, "for a moment")
            return real[name](*args)

        return call

    for function in real:
        monkeypatch.setattr(os, function, flaky(function))
    monkeypatch.setattr(reading, "RETRY_WAITS", (0.0,) * 20)
    assert check_domains(sources) == (A, B)
    assert all(map(np.array_equal, decode_all(A.files, TRANSFORM), decoded))
    assert cache_path(dataroot, A.source, A.files, TRANSFORM) == name
    assert waited


def test_the_headers_of_a_tar_file_are_read_with_retries(image, failing, waited):
    member = image("member")
    failing("pread", errno.EIO, 2)
    assert scan_source(member.shard.path, index_dir=None).files == [member]
    failing("pread", errno.EIO, float("inf"))
    assert scan_source(member.shard.path, index_dir=None).problems == {
        member.shard.path: "Input/output error"
    }
