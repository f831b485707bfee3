"""Prefetching on a thread, and the conversion of batches to floats."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import ImageOps

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import from_uint8, from_uint8_numpy, to_tensor
from cyclegan.data.loading.loader import prefetch


def test_both_conversions_of_a_batch_equal_to_tensor(picture):
    pictures = [picture((9, 7), seed=seed) for seed in range(3)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in pictures]))
    before = pixels.clone()
    expected = torch.stack(
        [to_tensor(pictures[0]), *map(to_tensor, map(ImageOps.mirror, pictures[1:]))]
    )
    assert torch.equal(from_uint8_numpy(pixels, torch.tensor([1, 2])), expected)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        images = from_uint8(pixels[:1], memory_format=memory_format)
        assert torch.equal(images, expected[:1])
        assert images.is_contiguous(memory_format=memory_format)
    assert torch.equal(pixels, before)


def test_prefetched_items_come_in_order_and_end():
    assert list(prefetch(range(20))) == list(range(20))


def test_an_exception_is_raised_in_its_turn():
    def items():
        yield 1
        raise UserError("no more")

    made = prefetch(items())
    assert next(made) == 1
    with pytest.raises(UserError, match="no more"):
        next(made)


@pytest.mark.parametrize("taken", [1, 5])
def test_closing_ends_the_thread(taken):
    count = 0

    def items():
        nonlocal count
        while True:
            count += 1
            yield count

    made = prefetch(items(), depth=2)
    for _ in range(taken):
        next(made)
    (worker,) = [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    made.close()
    worker.join(timeout=60)
    assert not worker.is_alive()
    # Those taken, three in advance, and one that the thread may have begun.
    assert count <= taken + 4


def test_no_more_than_the_depth_is_prefetched():
    made_so_far = []
    made = prefetch((made_so_far.append(i) or i for i in range(100)), depth=3)
    assert next(made) == 0
    time.sleep(0.2)
    # One was taken, and three are made in advance.
    assert len(made_so_far) <= 5
