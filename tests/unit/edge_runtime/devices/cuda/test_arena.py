from __future__ import annotations

import itertools

from edge_runtime.devices.cuda.arena import CHUNK_BYTES, Arena, Holding


def test_small_requests_share_a_chunk_and_do_not_overlap() -> None:
    asked: list[int] = []
    arena = Arena(lambda nbytes: asked.append(nbytes) or 1 << 40)
    taken = [arena.take(nbytes) for nbytes in (1, 256, 257, 4, 0)]
    assert taken == [(1 << 40) + offset for offset in (0, 256, 512, 1024, 1280)]
    assert asked == [CHUNK_BYTES]


def test_large_requests_get_memory_of_their_own_and_leave_the_chunk() -> None:
    addresses = itertools.count(1 << 40, 1 << 30)
    arena = Arena(lambda nbytes: next(addresses))
    first, large, second = arena.take(256), arena.take(CHUNK_BYTES), arena.take(256)
    assert second == first + 256 and abs(large - first) >= 1 << 30


def test_a_full_chunk_is_followed_by_another() -> None:
    addresses = itertools.count(1 << 40, 1 << 30)
    arena = Arena(lambda nbytes: next(addresses))
    taken = [arena.take(CHUNK_BYTES // 4) for _ in range(5)]
    assert taken[3] == taken[0] + 3 * CHUNK_BYTES // 4 and taken[4] == taken[0] + (1 << 30)


def test_what_an_owner_gives_back_is_the_next_ones() -> None:
    arena = Arena(lambda nbytes: 1 << 40)
    holding, other = Holding(arena), Holding(arena)
    array, place = holding.take_array((3, 5)), holding.take(1000)
    last = other.take(60)
    holding.give_back()
    holding.give_back()
    assert other.take(1000) == place
    assert other.take(60) == array.address
    assert other.take(60) == last + 256
