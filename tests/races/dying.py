"""Processes that are killed between two steps of a login, a change of the id or an ending.

``python -m tests.races.dying PLACE``, where PLACE is a directory, the URL of a server, or two of them with a comma
between: sessions move from the second to the first.  For each operation, and for each step of it, a child makes a
session, begins the operation, and kills itself before or after that step.  A line of JSON for each child says what a
browser may have by then.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.engine.verbs import Verbs
from aiohttp_session_store.migrate import MigratingStorage
from tests.processes.worker import make_storage
from tests.races.owner_operations import OPERATIONS

MOST_STEPS = 40
# Where the child is killed: before the storage is asked, or when it has answered.
WHEN = ["before", "after"]
CHANGES = ["insert", "replace", "retire", "touch", "delete", "link", "unlink"]


def storage_at(place: str) -> KeyedStorage:
    """Return the storage of a PLACE."""
    storages = [make_storage(one) for one in place.split(",")]
    return storages[0] if len(storages) == 1 else MigratingStorage(*storages)


def kill_at(storage: KeyedStorage, step: int, when: str) -> None:
    """Let this process be killed before or after step number *step* of what it asks of *storage* from now on."""
    count = 0

    def watched(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def verb(*args: Any) -> Any:
            nonlocal count
            count += 1
            this = count
            if this == step and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await call(*args)
            if this == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return verb

    for one in [storage.new, storage.old] if isinstance(storage, MigratingStorage) else [storage]:
        for name in CHANGES:
            if name != "retire" or type(one).retire is not Verbs.retire:  # which is another name of replace
                setattr(one, name, watched(getattr(one, name)))


async def run(place: str, operation: str, step: int, when: str, say: Callable[..., None]) -> None:
    """Make a session, begin an operation on it, and be killed."""
    storage, owner = storage_at(place), secrets.token_hex(8)
    first = storage.old if isinstance(storage, MigratingStorage) else storage
    new = await first.read(None)
    new.login(owner)
    old_id = await first.save(new)
    say(owner=owner, old_id=old_id)
    session, save = await storage.read(old_id), storage.save

    async def watched_save(session: Any) -> str | None:
        say(new_id=session.id)
        return await save(session)

    storage.save = watched_save  # type: ignore[method-assign]
    kill_at(storage, step, when)
    sent = await OPERATIONS[operation](storage, session, owner)
    say(sent=sent or "", finished=True)


def child(place: str, operation: str, step: int, when: str) -> dict[str, Any]:
    """Run one child, and return what it has said and whether it was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(run(place, operation, step, when, lambda **said: print_to(writer, said)))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    said: dict[str, Any] = {"operation": operation, "step": step, "when": when, "finished": False}
    with os.fdopen(reader) as lines:
        for line in lines:
            said |= json.loads(line)
    _, status = os.waitpid(pid, 0)
    said["exit"] = os.waitstatus_to_exitcode(status)
    return said


def print_to(writer: int, said: dict[str, Any]) -> None:
    os.write(writer, json.dumps(said).encode() + b"\n")


def children(place: str) -> Iterator[dict[str, Any]]:
    """Kill one child after the other, at each step of each operation."""
    for operation in OPERATIONS:
        for when in WHEN:
            for step in range(1, MOST_STEPS):
                said = child(place, operation, step, when)
                yield said
                if said["finished"]:
                    break


if __name__ == "__main__":
    for told in children(sys.argv[1]):
        sys.stdout.write(f"{json.dumps(told)}\n")
