"""Memory that is used again: never while somebody still sees it."""

from __future__ import annotations

import mmap
import resource
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prover.kernels import memory
from prover.kernels.memory import Arena

PAGE = mmap.PAGESIZE
WORDS = PAGE // 8


def places(*arrays: np.ndarray) -> list[int]:
    """Where arrays begin, in pages after the first."""
    first = arrays[0].__array_interface__["data"][0]
    return [(x.__array_interface__["data"][0] - first) // PAGE for x in arrays]


def test_the_lowest_free_place_is_taken_and_neighbours_join():
    arena = Arena(8 * PAGE)
    a, b, c = (arena.empty((2, n * WORDS // 2)) for n in (1, 3, 2))
    assert places(a, b, c) == [0, 1, 4] and a.flags.carray and c.shape == (2, WORDS)
    del b
    d, e = arena.empty((WORDS,)), arena.empty((2 * WORDS - 3,))
    assert places(a, d, e) == [0, 1, 2]
    with pytest.raises(MemoryError):
        arena.empty((2 * WORDS + 1,))
    del d, c, e
    assert arena.free() == [(PAGE, 8 * PAGE)]
    del a
    assert arena.free() == [(0, 8 * PAGE)]


def test_a_view_keeps_the_place():
    arena = Arena(4 * PAGE)
    lane = arena.empty((2, WORDS))[1]
    view = lane.reshape(2, -1)[:, ::2].T
    del lane
    assert arena.free() == [(2 * PAGE, 4 * PAGE)]
    del view
    assert arena.free() == [(0, 4 * PAGE)]


def test_an_array_that_dies_while_another_is_cut_waits():
    """The collector of cycles may run at any allocation, in the midst of `empty` too."""
    arena = Arena(4 * PAGE)
    array = arena.empty((WORDS,))
    with arena._lock:
        del array
        assert arena._free == [(PAGE, 4 * PAGE)]
    assert arena.free() == [(0, 4 * PAGE)]


def test_what_is_free_goes_back_and_what_is_in_use_stays():
    arena = Arena(64 * PAGE)
    a, b, c = (arena.empty((16 * WORDS,)) for _ in range(3))
    for x in (a, b, c):
        x[:] = 7
    del b
    arena.release()
    b = arena.empty((16 * WORDS,))
    assert not b.any() and np.all(a == 7) and np.all(c == 7)


def test_arrays_of_many_threads_do_not_overlap():
    arena = Arena(512 * PAGE)

    def work(seed: int) -> bool:
        rng, mine, right = np.random.default_rng(seed), [], True
        for step in range(300):
            if len(mine) < 6:
                mine.append((arena.empty((int(rng.integers(1, 9 * WORDS)),)), 1000 * seed + step))
                mine[-1][0][:] = mine[-1][1]
            else:
                array, value = mine.pop(int(rng.integers(6)))
                right &= bool(np.all(array == value))
        return right and all(np.all(array == value) for array, value in mine)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert arena.free() == [(0, 512 * PAGE)]


def test_touched_pages_are_not_touched_anew():
    """The second of two equal arrays causes no page faults to speak of."""
    count = 1 << 23

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory.empty(count)[:] = 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 8 * count // (1 << 21)  # fewer than one for each of the largest pages


def test_small_arrays_and_machines_without_an_arena_are_served(monkeypatch):
    assert memory.empty(3, 4).shape == (3, 4)
    monkeypatch.setattr(memory, "arena", lambda: None)
    assert memory.empty(2, memory.SMALLEST).shape == (2, memory.SMALLEST)
    monkeypatch.setattr(memory, "arena", lambda: Arena(PAGE))
    assert memory.empty(2, memory.SMALLEST).shape == (2, memory.SMALLEST)


def test_a_process_with_an_arena_can_fork():
    """Its addresses are as many as the machine has memory; a promise of that could not be given twice."""
    assert memory.arena() is not None
    assert subprocess.run(["true"], preexec_fn=lambda: None).returncode == 0
