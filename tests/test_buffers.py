"""Memory that is lent: never to two at once, and never more than without lending."""

import gc
import os
import threading
import warnings

import numpy as np
import pytest

from hospitium import buffers

LARGE = buffers.LEAST_BYTES


@pytest.fixture(autouse=True)
def nothing_idle():
    buffers.give_up()
    yield
    buffers.give_up()


def address(array):
    return array.__array_interface__["data"][0]


def num_idle():
    return len(buffers._idle)


def test_memory_is_lent_again_once_no_array_in_it_is_left():
    first = buffers.lend(LARGE)
    place = address(first)
    part = first[10:20].view(np.uint16)
    seen = memoryview(first).toreadonly()
    del first
    assert num_idle() == 0 and address(buffers.lend(LARGE)) != place
    del part
    buffers.give_up()
    again = np.frombuffer(seen, np.uint8)[5:]
    del seen
    assert num_idle() == 0
    del again
    assert num_idle() == 1 and address(buffers.lend(LARGE)) == place


def test_what_does_not_fit_is_given_up_before_more_is_taken():
    buffers.lend(LARGE)
    assert num_idle() == 1
    larger = buffers.lend(3 * LARGE)
    assert num_idle() == 0
    del larger
    smaller = buffers.lend(LARGE)
    assert num_idle() == 0 and smaller.size == LARGE


def test_of_those_that_fit_the_smallest_is_lent():
    large, small = buffers.lend(5 * LARGE), buffers.lend(4 * LARGE)
    place = address(small)
    del large, small
    assert address(buffers.lend(4 * LARGE)) == place


def test_small_memory_is_not_lent():
    buffers.lend(LARGE - 1)
    assert num_idle() == 0


def test_arrays_of_one_piece_have_their_shapes_and_do_not_overlap():
    params = {
        "scalar": np.float32(1.0).reshape(()),
        "w": np.zeros((3, LARGE // 8), np.float32),
        "none": np.zeros((0, 2), np.float32),
        "count": np.zeros(5, np.int64),
    }
    lent = buffers.lend_like(params)
    for number, (name, array) in enumerate(lent.items()):
        assert (array.shape, array.dtype) == (params[name].shape, params[name].dtype)
        assert array.flags.c_contiguous and array.flags.aligned
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(lent.values()))
    assert list(lent) == list(params) and buffers.lend_like({}) == {}


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(60):
            piece = buffers.lend(LARGE + (number % 3) * 4096)
            piece[:: LARGE // 7] = number
            if (piece[:: LARGE // 7] != number).any():
                wrong.append(number)
            del piece

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not wrong and num_idle() <= 6


def test_few_pieces_are_kept_and_those_that_were_idle_longest_go():
    pieces = [buffers.lend(LARGE) for _ in range(buffers.MOST_IDLE + 2)]
    last = address(pieces[-1])
    while pieces:
        del pieces[0]
    assert num_idle() == buffers.MOST_IDLE
    assert last in {address(piece) for piece in [buffers.lend(LARGE) for _ in range(3)]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no copies of a process here")
def test_a_copy_of_the_process_writes_to_memory_of_its_own():
    piece = buffers.lend(LARGE)
    piece[:10] = 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, of which the copy uses none
        child = os.fork()
    if child == 0:  # pragma: no cover
        piece[:10] = 9
        os._exit(0)
    os.waitpid(child, 0)
    assert (piece[:10] == 7).all()
