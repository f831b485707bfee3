"""Batches are the same however they are loaded, and loading may start anywhere."""

import multiprocessing
import traceback
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import read_image, to_tensor
from cyclegan.data.loading.cache import decode_all
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.loader import Batch, load_batches
from cyclegan.data.loading.sampler import StepBatchSampler
from cyclegan.data.loading.transforms import ImageTransform

CPU = torch.device("cpu")
MODES = ["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "resize", "none"]


class Files:
    """Flat images whose level is the number of the file."""

    def __init__(self, folder: Path, count_A: int, count_B: int) -> None:
        self.A = [self._write(folder / f"a{i}.png", i) for i in range(count_A)]
        self.B = [self._write(folder / f"b{i}.png", 100 + i) for i in range(count_B)]

    @staticmethod
    def _write(path: Path, level: int) -> Path:
        Image.new("RGB", (8, 8), (level, level, level)).save(path)
        return path

    def images(self, *, seed: int = 0, serial: bool = False) -> UnpairedImages:
        transform = ImageTransform("none", 8, 8, True)
        return UnpairedImages((self.A, self.B), (transform, transform), seed=seed, serial=serial)


@pytest.fixture
def files(tmp_path):
    return lambda count_A, count_B: Files(tmp_path, count_A, count_B)


def batches(images, *, count, start=0, batch_size=1, num_workers=0) -> list[Batch]:
    sampler = StepBatchSampler(images.epoch_length, images_per_step=batch_size, start=start)
    made = load_batches(images, sampler, num_workers=num_workers, device=CPU)
    return list(islice(made, count))


def names(images: torch.Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def drawn(images, count, **keywords) -> list[tuple[int, int]]:
    """The files of A and B of `count` samples, one after the other."""
    made = batches(images, count=count, **keywords)
    return [(names(batch.real_A)[0], names(batch.real_B)[0]) for batch in made]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.real_A, b.real_A) and torch.equal(a.real_B, b.real_B)
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture
def photographs(tmp_path, make_images):
    """Random crops of random images: whatever is drawn shows in the batches."""
    A = make_images(tmp_path / "A", 5, seed=1)
    B = make_images(tmp_path / "B", 3, seed=2, size=(50, 44))
    transform = ImageTransform("resize_and_crop", 40, 32, True)
    return UnpairedImages((A, B), (transform, transform), seed=0)


def keep_decoded(images: UnpairedImages) -> UnpairedImages:
    return replace(
        images, decoded=tuple(map(list, map(decode_all, images.files, images.transforms)))
    )


def plainly(path: Path, transform: ImageTransform, random: np.random.Generator) -> torch.Tensor:
    """Resized, cropped, mirrored and scaled by Pillow, one image after the other."""
    image = read_image(path)
    image = image.resize(transform.resized_size(*image.size), Image.Resampling.BICUBIC)
    across, down, mirror = random.random(3)
    if "crop" in transform.preprocess:
        side = transform.crop_size
        left, top = int(across * (image.width - side + 1)), int(down * (image.height - side + 1))
        image = image.crop((left, top, left + side, top + side))
    return to_tensor(ImageOps.mirror(image) if mirror < 0.5 else image)


@pytest.mark.parametrize("kept", [False, True], ids=["from files", "decoded"])
@pytest.mark.parametrize("preprocess", MODES)
def test_every_sample_equals_pillows_result_for_the_same_draws(
    tmp_path, make_images, preprocess, kept
):
    files = make_images(tmp_path, 3, size=(50, 44))
    transform = ImageTransform(preprocess, 40, 32, True)
    images = UnpairedImages((files, files), (transform, transform), seed=5, serial=True)
    made = batches(keep_decoded(images) if kept else images, count=6)
    for position, batch in enumerate(made):
        random = np.random.default_rng([5, 1, position])
        random.integers(3)
        for real in (batch.real_A, batch.real_B):
            assert torch.equal(real[0], plainly(files[position % 3], transform, random))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_decoded_images_give_the_same_batches_as_their_files(photographs, num_workers):
    plain = batches(photographs, count=7, batch_size=2, num_workers=num_workers)
    assert same(plain, batches(keep_decoded(photographs), count=7, batch_size=2))


def test_workers_may_be_spawned(photographs):
    alone = batches(photographs, count=3, batch_size=2)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert same(alone, batches(photographs, count=3, batch_size=2, num_workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_decoded_images_need_no_workers(photographs):
    images = keep_decoded(photographs)
    sampler = StepBatchSampler(images.epoch_length, images_per_step=2)
    made = load_batches(images, sampler, num_workers=2, device=CPU)
    next(made)
    assert not multiprocessing.active_children()


def test_an_image_that_could_not_be_decoded_is_replaced_and_named(files):
    some = files(4, 4)
    some.A[2].write_bytes(b"")
    images = keep_decoded(some.images(serial=True))
    made = batches(images, count=4)
    assert [names(batch.real_A)[0] for batch in made] == [0, 1, 3, 3]
    assert [batch.broken for batch in made] == [{}, {}, {some.A[2]: "empty file"}, {}]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_batches_are_the_same_for_any_number_of_workers(photographs, num_workers):
    alone = batches(photographs, count=7, batch_size=2)
    assert same(alone, batches(photographs, count=7, batch_size=2, num_workers=num_workers))


@pytest.mark.parametrize("start", [1, 4, 5, 13])
def test_loading_may_start_at_any_position(photographs, start):
    whole = batches(photographs, count=20)
    assert same(whole[start:], batches(photographs, count=20 - start, start=start))


def test_another_seed_gives_other_samples(files):
    some = files(6, 6)
    assert drawn(some.images(seed=0), 12) != drawn(some.images(seed=1), 12)


@pytest.mark.parametrize(("count_A", "count_B"), [(5, 3), (3, 5), (4, 4), (1, 6)])
def test_an_epoch_is_as_long_as_the_larger_domain(files, count_A, count_B):
    assert files(count_A, count_B).images().epoch_length == max(count_A, count_B)


def test_every_image_of_a_larger_A_comes_once_an_epoch_in_a_new_order(files):
    order = [a for a, _ in drawn(files(7, 3).images(), 21)]
    epochs = [order[0:7], order[7:14], order[14:21]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_smaller_A_starts_over_within_the_epoch(files):
    counts = Counter(a for a, _ in drawn(files(3, 7).images(), 7))
    assert sorted(counts.values()) == [2, 2, 3]


def test_B_is_drawn_at_random_with_replacement(files):
    pairs = drawn(files(8, 8).images(), 80)
    epochs = [[b for _, b in pairs[i : i + 8]] for i in range(0, 80, 8)]
    # With replacement, an epoch of 8 holds each of 8 only once in 400.
    assert sum(len(set(epoch)) == 8 for epoch in epochs) <= 1
    assert len({b for _, b in pairs}) == 8
    # Not in lock-step: one image of A meets several of B.
    assert all(len({b for a, b in pairs if a == wanted}) > 1 for wanted in range(8))


def test_serial_batches_take_both_domains_in_order(files):
    pairs = drawn(files(3, 5).images(serial=True), 10)
    assert pairs == [(i % 5 % 3, 100 + i % 5) for i in range(10)]


def test_crops_of_A_and_B_are_independent(tmp_path):
    columns, rows = np.meshgrid(np.arange(40), np.arange(40))
    pixels = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    transform = ImageTransform("crop", 40, 32, True)
    images = UnpairedImages(([tmp_path / "x.png"],) * 2, (transform, transform), seed=0)
    pairs = [(batch.real_A, batch.real_B) for batch in batches(images, count=40)]
    flipped = [[bool(x[0, 0, 0, 0] > x[0, 0, 0, -1]) for x in pair] for pair in pairs]
    assert {tuple(pair) for pair in flipped} == {(a, b) for a in (0, 1) for b in (0, 1)}
    lefts = [tuple(float(x[0, 0].min()) for x in pair) for pair in pairs]
    assert sum(a == b for a, b in lefts) < 20


def test_each_domain_has_its_own_transform(tmp_path, make_images):
    A = make_images(tmp_path / "A", 2, size=(20, 20))
    B = make_images(tmp_path / "B", 2, size=(40, 40))
    transform = ImageTransform("crop", 0, 16, True), ImageTransform("crop", 0, 32, True)
    (batch,) = batches(UnpairedImages((A, B), transform, seed=0), count=1)
    assert (batch.real_A.shape[-1], batch.real_B.shape[-1]) == (16, 32)


def test_the_last_batch_of_an_epoch_is_shorter_and_no_batch_crosses_its_end(files):
    made = batches(files(5, 2).images(), count=6, batch_size=2)
    assert [len(batch.real_A) for batch in made] == [2, 2, 1, 2, 2, 1]
    assert sorted(name for batch in made[:3] for name in names(batch.real_A)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_becomes_unreadable_is_replaced_and_named(files, num_workers):
    some = files(4, 4)
    some.A[2].write_bytes(some.A[2].read_bytes()[:40])
    some.B[3].unlink()
    made = batches(some.images(serial=True), count=4, num_workers=num_workers)
    assert [names(batch.real_A)[0] for batch in made] == [0, 1, 3, 3]
    assert [names(batch.real_B)[0] for batch in made] == [100, 101, 102, 100]
    assert [set(batch.broken) for batch in made] == [set(), set(), {some.A[2]}, {some.B[3]}]
    assert made[3].broken[some.B[3]] == "No such file or directory"


def test_a_broken_file_does_not_change_the_other_samples(photographs):
    whole = batches(photographs, count=10)
    photographs.files[0][1].write_bytes(b"")
    after = batches(photographs, count=10)
    changed = [i for i, batch in enumerate(after) if batch.broken]
    assert len(changed) == 2
    for i, (old, new) in enumerate(zip(whole, after, strict=True)):
        assert torch.equal(old.real_B, new.real_B)
        assert torch.equal(old.real_A, new.real_A) == (i not in changed)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_lost_disk_ends_the_run_with_one_line(files, num_workers):
    some = files(2, 2)
    for path in some.A:
        path.unlink()
    with pytest.raises(UserError) as caught:
        batches(some.images(), count=1, num_workers=num_workers)
    folder = some.A[0].parent
    assert str(caught.value) == f"no image in {folder} can be read any more: check the disk"
    # The traceback holds the loader, whose process would end in the middle of a later test.
    traceback.clear_frames(caught.value.__context__.__traceback__)


def test_loading_draws_no_random_numbers_of_the_networks(photographs):
    before = torch.get_rng_state()
    batches(photographs, count=3)
    batches(photographs, count=1, num_workers=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kept", [False, True], ids=["from files", "decoded"])
def test_batches_on_the_gpu_are_bit_for_bit_those_of_the_cpu(photographs, kept):
    alone = batches(photographs, count=40, batch_size=2)
    images = keep_decoded(photographs) if kept else photographs
    sampler = StepBatchSampler(images.epoch_length, images_per_step=2)
    made = load_batches(images, sampler, num_workers=1, device=torch.device("cuda"))
    seen = []
    for batch in islice(made, len(alone)):
        # The GPU reads the batch after long work, when Python has dropped it: no later batch may
        # have its memory by then.
        busy = torch.rand(2048, 2048, device="cuda")
        for _ in range(20):
            busy = busy @ busy
        seen.append((batch.real_A.clone(), batch.real_B.clone()))
        del batch
    for on_cpu, (real_A, real_B) in zip(alone, seen, strict=True):
        assert torch.equal(real_A.cpu(), on_cpu.real_A)
        assert torch.equal(real_B.cpu(), on_cpu.real_B)
