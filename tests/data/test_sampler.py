"""How a step's images are dealt out to batches and processes."""

from itertools import islice

import pytest

from cyclegan.data.loading.sampler import Positions, deal


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_every_image_counts_once_and_equally(count, batch_size, world):
    dealt = [deal(count, batch_size=batch_size, rank=r, world=world) for r in range(world)]
    counted = [0.0] * count
    for shares in dealt:
        for share in shares:
            for place in range(share.start, share.stop):
                counted[place] += share.weight / len(share) / world
    assert counted == pytest.approx([1 / count] * count)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_all_processes_compute_as_many_shares_and_none_of_them_is_empty(count):
    dealt = [deal(count, batch_size=2, rank=rank, world=4) for rank in range(4)]
    assert {len(shares) for shares in dealt} == {-(-count // 2)}
    assert all(len(share) >= 1 for shares in dealt for share in shares)


def test_alone_the_shares_are_the_batches():
    assert [(s.start, s.stop, s.weight) for s in deal(5, batch_size=2)] == [
        (0, 2, 0.4),
        (2, 4, 0.4),
        (4, 5, 0.2),
    ]


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_goes_over_every_position_once(world):
    ranks = [
        Positions(10, images_per_step=4, batch_size=2, rank=rank, world=world)
        for rank in range(world)
    ]
    steps = [list(islice(rank, 6)) for rank in ranks]
    once = [{place for rank in steps for place in rank[step]} for step in range(6)]
    assert [sorted(places) for places in once[:3]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert sorted(set().union(*once[3:])) == list(range(10, 20))


def test_from_another_position_on_the_steps_are_the_same():
    positions = Positions(7, images_per_step=3)
    assert list(islice(positions.since(6), 3)) == list(islice(positions, 5))[2:]
