"""Reading, translation and writing overlap within bounds; the state after an error."""

import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from support.toys import save

from cyclegan.translate import image_folders
from cyclegan.translate.image_folders import TranslationJob, translate_files

TIMEOUT = 30


def make_jobs(tmp_path: Path, count: int) -> list[TranslationJob]:
    return [
        TranslationJob(
            save(tmp_path / f"{index:02}.png", seed=index), tmp_path / "out" / f"{index:02}.png"
        )
        for index in range(count)
    ]


def same(images: list[Image.Image]) -> list[Image.Image]:
    return images


def test_a_batch_is_translated_while_the_last_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Event()
    calls: list[int] = []

    def translate(images: list[Image.Image]) -> list[Image.Image]:
        calls.append(len(images))
        if len(calls) == 2:
            second.set()
        return images

    # The first image is only written once the second is translated.
    waited: list[bool] = []
    monkeypatch.setattr(image_folders, "save_image", lambda *_: waited.append(second.wait(TIMEOUT)))
    jobs = make_jobs(tmp_path, 2)
    assert len(list(translate_files(translate, jobs, batch_size=1, num_threads=1))) == 2
    assert waited == [True, True]


@pytest.mark.parametrize(("batch_size", "num_threads"), [(2, 1), (1, 3), (2, 2)])
def test_the_number_of_unwritten_translations_is_bounded(
    batch_size: int, num_threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translated = written = 0
    unwritten: list[int] = []
    lock, free = threading.Lock(), threading.Event()

    def translate(images: list[Image.Image]) -> list[Image.Image]:
        nonlocal translated
        translated += len(images)
        with lock:
            unwritten.append(translated - written)
        return images

    def write(*_: object) -> None:
        nonlocal written
        free.wait(TIMEOUT)
        with lock:
            written += 1

    monkeypatch.setattr(image_folders, "save_image", write)
    # Nothing is written until translating has come to a stop.
    stopper = threading.Timer(0.5, free.set)
    stopper.start()
    results = translate_files(
        translate, make_jobs(tmp_path, 12), batch_size=batch_size, num_threads=num_threads
    )
    assert len(list(results)) == 12
    assert max(unwritten) <= batch_size + max(batch_size, num_threads)


def test_images_are_read_ahead_for_every_thread_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = image_folders.read_image
    monkeypatch.setattr(image_folders, "read_image", lambda path: read.append(path) or real(path))
    results = translate_files(same, make_jobs(tmp_path, 12), batch_size=1, num_threads=2)
    next(results)
    # Three that wait to be written, the next one, and one ahead for each thread.
    assert len(read) <= 6
    results.close()


def test_results_come_in_the_order_of_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The later, the faster.
    monkeypatch.setattr(
        image_folders, "save_image", lambda _, path: time.sleep(0.02 * (9 - int(path.stem)))
    )
    jobs = make_jobs(tmp_path, 9)
    jobs[4].source.write_text("no image")
    results = list(translate_files(same, jobs, batch_size=2, num_threads=4))
    broken = [result for result in results if result.problem]
    assert [result.job for result in broken] == [jobs[4]]
    assert [r.job for r in results if not r.problem] == jobs[:4] + jobs[5:]


def test_a_result_is_given_once_its_file_is_there(tmp_path: Path) -> None:
    for result in translate_files(same, make_jobs(tmp_path, 7), batch_size=2, num_threads=2):
        assert result.job.target.is_file()


def test_a_target_that_cannot_be_written_raises(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, 5)
    jobs[2].target.mkdir(parents=True)
    with pytest.raises(OSError, match="02.png"):
        list(translate_files(same, jobs, batch_size=2, num_threads=2))


def test_no_further_file_is_begun_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    busy, free = threading.Event(), threading.Event()

    def write(_: object, path: Path) -> None:
        begun.append(path.name)
        busy.set()
        free.wait(TIMEOUT)

    def translate(images: list[Image.Image]) -> list[Image.Image]:
        if len(images) == 1:
            # As Ctrl-C would, while one of the first batch's files is being written.
            busy.wait(TIMEOUT)
            threading.Timer(0.2, free.set).start()
            raise KeyboardInterrupt
        return images

    monkeypatch.setattr(image_folders, "save_image", write)
    with pytest.raises(KeyboardInterrupt):
        list(translate_files(translate, make_jobs(tmp_path, 5), batch_size=4, num_threads=1))
    assert begun == ["00.png"]


def test_a_batch_that_is_too_large_for_the_memory_is_translated_in_parts(tmp_path: Path) -> None:
    sizes: list[int] = []

    def translate(images: list[Image.Image]) -> list[Image.Image]:
        sizes.append(len(images))
        if len(images) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
        return images

    results = list(translate_files(translate, make_jobs(tmp_path, 5), batch_size=5, num_threads=1))
    assert [result.problem for result in results] == [None] * 5
    assert sizes == [5, 2, 3, 1, 2]


def test_each_size_has_its_own_number_of_images_at_once(tmp_path: Path) -> None:
    sides = [8, 8, 8, 9, 9]
    jobs = [
        TranslationJob(save(tmp_path / f"{i}.png", size=(side, 8)), tmp_path / "out" / f"{i}.png")
        for i, side in enumerate(sides)
    ]
    seen: list[int] = []
    told: list[dict] = []

    def translate(images: list[Image.Image]) -> list[Image.Image]:
        seen.append(len(images))
        return images

    def batch_sizes(counts):
        told.append(dict(counts))
        return {(8, 8): 3, (9, 8): 1}

    list(translate_files(translate, jobs, batch_size=batch_sizes, num_threads=1))
    assert told == [{(8, 8): 3, (9, 8): 2}]
    assert seen == [3, 1, 1]
