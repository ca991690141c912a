"""Images computed side by side: in order, each with its share of the threads, large ones alone."""

import threading
import time

import pytest
import torch

from tool.run.side_by_side import LANES, side_by_side

CPU = torch.device("cpu")


def never(_sample: int) -> bool:
    """No sample is alone."""
    return False


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_samples(threads, count):
    threads(count)

    def slow_at_first(sample: int) -> int:
        time.sleep(0.02 * (sample % 3 == 0))
        return sample * sample

    found = list(side_by_side(slow_at_first, range(10), CPU, never))
    assert found == [(sample, sample * sample) for sample in range(10)]


@pytest.mark.parametrize(("count", "lanes", "share"), [(2, 2, 1), (3, 3, 1), (9, LANES, 2)])
def test_lanes_share_the_threads_and_work_at_once(threads, count, lanes, share):
    threads(count)
    together = threading.Barrier(lanes)  # breaks unless so many are at work at once

    def meet(_sample: int) -> int:
        together.wait(timeout=20)
        return torch.get_num_threads()

    assert [result for _, result in side_by_side(meet, range(lanes), CPU, never)] == [share] * lanes
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(("device", "count"), [("cpu", 1), ("meta", 4)])
def test_one_thread_and_other_devices_work_in_the_callers_thread(threads, device, count):
    threads(count)
    made = side_by_side(lambda _: threading.current_thread(), range(3), torch.device(device), never)
    assert {thread for _, thread in made} == {threading.current_thread()}


def test_a_sample_alone_has_all_threads_and_no_other_beside_it(threads):
    threads(4)
    at_work, seen = set(), {}

    def look(sample: int) -> int:
        at_work.add(sample)
        time.sleep(0.01)
        seen[sample] = (set(at_work), torch.get_num_threads())
        at_work.remove(sample)
        return sample

    found = side_by_side(look, range(12), CPU, lambda sample: sample in (0, 5, 11))
    assert [sample for sample, _ in found] == list(range(12))
    assert {sample: seen[sample] for sample in (0, 5, 11)} == {
        sample: ({sample}, 4) for sample in (0, 5, 11)
    }
    assert seen[3][1] == 1


def test_samples_are_taken_as_they_are_needed(threads):
    threads(2)
    taken = []

    def samples():
        for sample in range(100):
            taken.append(sample)
            yield sample

    made = side_by_side(lambda sample: sample, samples(), CPU, never)
    next(made)
    assert len(taken) == 3
    made.close()
    assert len(taken) == 3


def test_an_error_of_the_work_comes_after_what_was_before_it(threads):
    threads(3)

    def fail(sample: int) -> int:
        if sample == 4:
            raise ValueError("four")
        return sample

    found = []
    with pytest.raises(ValueError, match="four"):
        found.extend(sample for sample, _ in side_by_side(fail, range(10), CPU, never))
    assert found == [0, 1, 2, 3]


def test_an_error_of_the_samples_comes_after_what_was_before_it(threads):
    threads(3)

    def samples():
        yield from range(2)
        raise ValueError("two")

    found = []
    with pytest.raises(ValueError, match="two"):
        found.extend(sample for sample, _ in side_by_side(str, samples(), CPU, never))
    assert found == [0, 1]


def test_maps_beside_each_other_are_those_alone(threads):
    threads(2)
    weight = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    images = [torch.full((1, 8, 12 + n, 12), float(n)) for n in range(9)]

    @torch.inference_mode()
    def compute(image: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(image, weight)

    made = list(side_by_side(compute, images, CPU, never))
    threads(1)
    for image, result in made:
        assert torch.equal(result, compute(image))
