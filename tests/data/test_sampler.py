"""How a step's images are split into micro-batches and over processes."""

from itertools import islice

import pytest

from cyclegan.data.loading.sampler import StepBatchSampler, split_batch


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_every_image_counts_once_and_equally(count, batch_size, world_size):
    counted = [0.0] * count
    for rank in range(world_size):
        for micro_batch in split_batch(
            count, batch_size=batch_size, rank=rank, world_size=world_size
        ):
            for place in range(micro_batch.start, micro_batch.stop):
                counted[place] += micro_batch.weight / len(micro_batch) / world_size
    assert counted == pytest.approx([1 / count] * count)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_all_processes_compute_the_same_number_of_micro_batches_none_of_them_empty(count):
    ranks = [split_batch(count, batch_size=2, rank=rank, world_size=4) for rank in range(4)]
    assert {len(micro_batches) for micro_batches in ranks} == {-(-count // 2)}
    assert all(len(each) >= 1 for micro_batches in ranks for each in micro_batches)


def test_one_process_computes_all_micro_batches():
    assert [(m.start, m.stop, m.weight) for m in split_batch(5, batch_size=2)] == [
        (0, 2, 0.4),
        (2, 4, 0.4),
        (4, 5, 0.2),
    ]


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_epoch_visits_every_position_once(world_size):
    ranks = [
        StepBatchSampler(10, images_per_step=4, accumulate=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    steps = [list(islice(rank, 6)) for rank in ranks]
    once = [{place for rank in steps for place in rank[step]} for step in range(6)]
    assert [sorted(places) for places in once[:3]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert sorted(set().union(*once[3:])) == list(range(10, 20))


def test_a_sampler_that_starts_at_another_position_yields_the_same_steps():
    sampler = StepBatchSampler(7, images_per_step=3)
    assert list(islice(sampler.starting_at(6), 3)) == list(islice(sampler, 5))[2:]
