"""WebSockets whose sessions end in other processes: four real workers on one storage."""

import asyncio
import secrets
import statistics
import time
from typing import Any

import aiohttp
import pytest

from tests.processes.conftest import WORKERS, Workers
from tests.processes.test_owners import sent

SOON = 30.0
POLICY_VIOLATION = 1008


async def opened(workers: Workers, cookie: str) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket at any of the workers, and wait until it is watched."""
    socket = await workers.client.ws_connect(workers.url + "/socket", headers={"Cookie": f"session={cookie}"})
    assert await socket.receive_str(timeout=SOON) == "open"
    return socket


async def entered(workers: Workers, owner: str) -> str:
    return sent(await workers.get(f"/enter?owner={owner}"))


async def closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[Any, Any, float]:
    """Return the code and the reason with which a WebSocket is closed, and when."""
    message = await socket.receive(SOON)
    return message.data, message.extra, time.monotonic()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/leave", "logout"),
        ("/logout", "logout"),
        ("/renew?old=worthless", "replaced"),
        ("/enter?owner={owner}", "replaced"),
        ("/end?owner={owner}", "revoked"),
        ("/enter?owner={owner}&most=1", "too_many"),
    ],
)
async def test_an_ending_closes_the_sockets_at_all_workers(workers: Workers, path: str, reason: str) -> None:
    owners = [secrets.token_hex(8) for _ in range(5)]
    cookies = [await entered(workers, owner) for owner in owners]
    sockets = [[await opened(workers, cookie) for _ in range(4)] for cookie in cookies]
    stays = await opened(workers, await entered(workers, "other " + owners[0]))

    async def seconds(nth: int) -> list[float]:
        begun, quiet = time.monotonic(), reason in {"revoked", "too_many"}
        await workers.ask_for(path.format(owner=owners[nth]), "" if quiet else cookies[nth])
        found = [await closed(socket) for socket in sockets[nth]]
        assert [(code, why) for code, why, _ in found] == [(POLICY_VIOLATION, reason)] * 4
        return [when - begun for *_, when in found]

    taken = [one for of_session in await asyncio.gather(*map(seconds, range(5))) for one in of_session]

    # Half of them, because a busy machine may stand still for a while.
    assert statistics.median(taken) < (2 if "://" not in workers.place else 1)
    assert not stays.closed
    await stays.close()


async def test_a_socket_follows_its_session_to_an_id_of_another_worker(workers: Workers) -> None:
    owner = secrets.token_hex(8)
    cookie = await entered(workers, owner)
    sockets = [await opened(workers, cookie) for _ in range(4)]
    for _ in range(5):
        cookie = sent(await workers.get("/renew", cookie))
    assert not any(socket.closed for socket in sockets)

    await workers.get("/leave", cookie)

    assert [(await closed(socket))[:2] for socket in sockets] == [(POLICY_VIOLATION, "logout")] * 4


async def crowd(workers: Workers, cookies: list[str], number: int) -> None:
    """Open so many WebSockets, and leave them in four ways."""
    for start in range(0, number, 50):
        sockets = await asyncio.gather(*(opened(workers, cookies[nth % len(cookies)]) for nth in range(50)))
        for nth, socket in enumerate(sockets):
            if nth % 3 == 0:
                await socket.close()
            elif nth % 3 == 1:  # as if the network were gone
                assert socket._response.connection is not None
                assert socket._response.connection.transport is not None
                socket._response.connection.transport.abort()
            else:  # the handler fails
                await socket.send_str("anything")
                await socket.receive(SOON)
                await socket.close()
        if start % 1000 == 0:  # and the session ends
            ending = await entered(workers, "ending")
            last = [await opened(workers, ending) for _ in range(4)]
            await workers.get("/leave", ending)
            for socket in last:
                await closed(socket)
                await socket.close()


async def left(workers: Workers) -> dict[int, dict[str, int]]:
    """Wait until no worker has anything to do with a WebSocket, and return what each says of itself."""
    found: dict[int, dict[str, int]] = {}
    async with asyncio.timeout(SOON):
        while len(found) < WORKERS or any(one["watched"] or one["closing"] for one in found.values()):
            one = await workers.ask("/left")
            found[one["worker"]] = one
    return found


@pytest.mark.parametrize("number", [200, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_nothing_is_left_of_sockets_that_are_over(workers: Workers, number: int) -> None:
    cookies = [await entered(workers, secrets.token_hex(8)) for _ in range(10)]
    await crowd(workers, cookies, number // 4)
    before = await left(workers)

    await crowd(workers, cookies, number)

    after = await left(workers)
    for worker, now in after.items():
        assert now["tasks"] <= before[worker]["tasks"] + 2, "what listens may be about to end"
        assert now["bytes"] - before[worker]["bytes"] < 4_000_000
