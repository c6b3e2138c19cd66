"""A memory storage belongs to one event loop at a time."""

import asyncio
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiohttp_session_store import MemoryStorage, SessionUsageError

LATER = 4_000_000_000
KEY = "ab" * 32


@pytest.fixture
def other_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def take_the_lock(storage: MemoryStorage) -> None:
    async with storage.lock(KEY):
        pass


VERBS: dict[str, Callable[[MemoryStorage], Awaitable[object]]] = {
    "fetch": lambda storage: storage.fetch(KEY),
    "insert": lambda storage: storage.insert(KEY, b"", LATER),
    "replace": lambda storage: storage.replace(KEY, b"", LATER, b""),
    "retire": lambda storage: storage.retire(KEY, b"", LATER, b""),
    "touch": lambda storage: storage.touch(KEY, LATER, b""),
    "delete": lambda storage: storage.delete(KEY),
    "sweep": lambda storage: storage.sweep(),
    "lock": take_the_lock,
}


async def call(verb: str, storage: MemoryStorage) -> None:
    await VERBS[verb](storage)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_second_loop_is_refused_while_the_first_one_runs(verb: str, other_thread: ThreadPoolExecutor) -> None:
    storage = MemoryStorage(sweep_interval=None)
    await storage.insert("first", b"", LATER)

    with pytest.raises(SessionUsageError, match="two event loops at once"):
        other_thread.submit(asyncio.run, call(verb, storage)).result()

    assert await storage.fetch("first") is not None, "the first loop can go on"


async def test_a_lock_has_no_second_holder_in_another_loop(other_thread: ThreadPoolExecutor) -> None:
    storage = MemoryStorage(sweep_interval=None)

    async with storage.lock(KEY):
        with pytest.raises(SessionUsageError):
            other_thread.submit(asyncio.run, call("lock", storage)).result()


def test_of_two_loops_that_start_together_one_stores_every_key_that_it_answers() -> None:
    for _ in range(20):
        storage = MemoryStorage(sweep_interval=None)
        start = threading.Barrier(2)
        ids: list[str] = []
        answered: list[str] = []
        refused: list[SessionUsageError] = []

        async def write(
            number: int,
            storage: MemoryStorage = storage,
            start: threading.Barrier = start,
            ids: list[str] = ids,
            answered: list[str] = answered,
            refused: list[SessionUsageError] = refused,
        ) -> None:
            start.wait()
            try:
                for index in range(100):
                    session = await storage.read(ids[0])
                    session[f"{number}.{index}"] = index
                    await storage.save(session)
                    answered.append(f"{number}.{index}")
                    await asyncio.sleep(0)
            except SessionUsageError as error:
                refused.append(error)
            start.wait()

        async def make(storage: MemoryStorage = storage, ids: list[str] = ids) -> None:
            session = await storage.read(None)
            session["made"] = True
            ids.append(await storage.save(session) or "")

        asyncio.run(make())
        threads = [threading.Thread(target=asyncio.run, args=(write(number),)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        stored = dict(asyncio.run(storage.read(ids[0])))
        assert set(answered) <= stored.keys()
        assert len(refused) == 1


async def test_a_loop_that_has_ended_can_be_followed_by_another(other_thread: ThreadPoolExecutor) -> None:
    storage = MemoryStorage(sweep_interval=None)
    other_thread.submit(asyncio.run, call("insert", storage)).result()

    assert await storage.fetch(KEY) is not None


async def test_a_child_that_is_forked_while_the_loop_runs_can_use_its_copy() -> None:
    storage = MemoryStorage(sweep_interval=None)
    await storage.insert(KEY, b"", LATER)

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.events._set_running_loop(None)
            code = 0 if asyncio.run(storage.fetch(KEY)) is not None else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert await storage.fetch(KEY) is not None
