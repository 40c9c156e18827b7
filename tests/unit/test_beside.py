"""Threads beside the event loop are less urgent than it is, and it is not kept waiting by one that has the interpreter."""

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from authz.beside import beside, threads_beside
from gateway.serving import take_over_soon


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux alone")
def test_a_thread_beside_the_loop_is_less_urgent_and_the_loop_as_urgent_as_before() -> None:
    before = _priority()
    with threads_beside(1, "work") as pool:
        assert pool.submit(_priority).result() == min(before + 10, 19)
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("work")
    assert _priority() == before


async def test_what_is_made_beside_the_loop_is_made_by_a_thread_of_that_kind() -> None:
    name, priority = await beside(lambda: (threading.current_thread().name, _priority()))
    assert name.startswith("made-beside")
    assert priority == min(_priority() + 10, 19) or sys.platform != "linux"
    with pytest.raises(ZeroDivisionError):
        await beside(lambda: 1 // 0)


def test_work_is_done_where_no_priority_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refused)
    with threads_beside(1, "work") as pool:
        assert pool.submit(lambda: 1).result() == 1


@pytest.fixture
def interval() -> Iterator[float]:
    """The interval of before, which is put back."""
    before = sys.getswitchinterval()
    yield before
    sys.setswitchinterval(before)


def test_a_server_takes_the_interpreter_over_ten_times_sooner_than_python_does(interval: float) -> None:
    take_over_soon()
    assert sys.getswitchinterval() == pytest.approx(interval / 10)
