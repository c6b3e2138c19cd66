"""Visitors: browsers with several tabs, which send orders at random and note what came back."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.history.history import Call, History, Step
from tests.history.operations import Order, Orders

TABS, SOCKETS = 4, 2
# A visitor leaves after so many seconds, and another one comes: the judge looks at one session at a time.
STAYS = (2.0, 5.0)
# Some stay longer, with sockets that are silent for seconds at a time; the clock may be moved by minutes meanwhile.
LONG_STAYS, PATIENT = (10.0, 40.0), 0.05
SOCKET_STAYS = (0.2, 40.0)
SILENCES = (0.2, 0.2, 3.0)


class Crowd:
    """Sends requests to the workers, and keeps the history.

    Attributes:
        history: What happened so far.
    """

    def __init__(self, addresses: Callable[[random.Random], tuple[int, str]], seed: int, patience: float) -> None:
        """Send to *addresses*, which picks a worker and says how to reach it; wait *patience* seconds for an answer."""
        self.history = History()
        self._addresses, self._seed, self._patience = addresses, seed, patience
        self._began = time.monotonic()
        self._tags, self._names = itertools.count(1), dict[str, str]()
        self._client: aiohttp.ClientSession

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._began

    async def run(self, seconds: float, visitors: int) -> None:
        """Let so many visitors at a time come and go."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=self._patience)
        jar = aiohttp.DummyCookieJar()
        self._client = aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=jar, max_field_size=1_000_000, max_line_size=1_000_000
        )  # what a handler has read stands in a header
        # Otherwise aiohttp sends a GET once more if the connection breaks, and one call would be carried out twice.
        self._client._retry_connection = False
        async with self._client, asyncio.TaskGroup() as group:
            for number in range(visitors):
                group.create_task(self._come_and_go(number, visitors, self.now() + seconds))

    async def _come_and_go(self, number: int, step: int, end: float) -> None:
        for visitor in itertools.count(number, step):
            chance = random.Random(f"{self._seed}.{visitor}")
            leaves = min(end, self.now() + chance.uniform(*(LONG_STAYS if chance.random() < PATIENT else STAYS)))
            browser = Browser(self, visitor)
            async with asyncio.TaskGroup() as group:
                for tab in range(chance.randint(1, TABS)):
                    group.create_task(browser.tab(tab, random.Random(f"{self._seed}.{visitor}.{tab}"), leaves))
                for tab in range(chance.randint(0, SOCKETS)):
                    group.create_task(browser.sockets(tab, random.Random(f"{self._seed}.{visitor}.s{tab}"), leaves))
            if self.now() >= end:
                return

    def tag(self) -> str:
        """Return a value that was never written before."""
        return f"t{next(self._tags)}"

    def name_of(self, cookie: str) -> str:
        """Return a short name for a cookie."""
        return self._names.setdefault(cookie, f"c{len(self._names) + 1}")

    def value_of(self, name: str | None) -> dict[str, str]:
        """Return the header that sends the cookie of that name."""
        value = next((value for value, known in self._names.items() if known == name), None)
        return {} if value is None else {"Cookie": f"session={value}"}

    def begin(self, visitor: int, worker: int, kind: str, steps: list[Step], cookie: str | None) -> Call:
        """Note a call that is sent now."""
        call = Call(len(self.history.calls), visitor, worker, kind, steps, cookie=cookie, sent=self.now())
        self.history.calls.append(call)
        return call

    # --- requests

    async def send(self, visitor: int, chance: random.Random, order: Order, cookie: str | None) -> Call:
        """Send an order and note its answer."""
        worker, url = self._addresses(chance)
        headers = self.value_of(cookie)
        call = self.begin(visitor, worker, "request", order.steps, cookie)
        call.end, call.exclusive = order.end, order.exclusive
        body = {"steps": order.steps, "end": order.end, "exclusive": order.exclusive}
        try:
            async with asyncio.timeout(order.hang_up_after):
                async with self._client.post(
                    f"{url}/order", json=body, headers=headers, allow_redirects=False
                ) as response:
                    await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return call
        self._note(call, response)
        return call

    def _note(self, call: Call, response: aiohttp.ClientResponse) -> None:
        call.status = response.status
        call.stored = response.headers.get("X-Stored", "")
        if (cookie := response.cookies.get("session")) is not None:
            call.given = self.name_of(cookie.value) if cookie.value else ""
        report: dict[str, Any] = json.loads(response.headers.get("X-Report", "{}"))
        call.new, call.data = report.get("new"), report.get("data")
        call.added = report.get("added", [])
        call.saved, call.error = report.get("saved", []), report.get("error", "")
        call.owner, call.key = report.get("owner"), report.get("key")
        call.ended, call.shown = report.get("ended"), report.get("shown")
        call.answered = self.now()

    # --- sockets

    async def converse(self, browser: "Browser", chance: random.Random, orders: Orders, leaves: float) -> None:
        """Open a socket, send messages for a while, and go."""
        worker, url = self._addresses(chance)
        cookie = browser.pick(chance, old=False)
        call = self.begin(browser.number, worker, "open", orders.opening(), cookie)
        try:
            async with self._client.ws_connect(
                f"{url}/socket", params={"steps": json.dumps(call.steps)}, headers=self.value_of(cookie)
            ) as socket:
                self._note(call, socket._response)
                browser.receive(call)
                held = call.given or (None if call.new else cookie)
                silence = chance.choice(SILENCES)
                while held is not None and self.now() < leaves:
                    await asyncio.sleep(chance.uniform(0.005, silence))
                    message = self.begin(browser.number, worker, "message", orders.message(), held)
                    await socket.send_json(message.steps)
                    answer = json.loads(await socket.receive_str(timeout=self._patience))
                    message.saved, message.error, message.stored = answer["saved"], answer["error"], answer["stored"]
                    message.status, message.answered = 200, self.now()
                    if message.saved != [True]:
                        return
        except aiohttp.WSServerHandshakeError as error:
            if call.answered is None:
                call.status = error.status
                call.stored = "" if error.headers is None else error.headers.get("X-Stored", "")
                call.answered = self.now()
        except (aiohttp.ClientError, TimeoutError, OSError, TypeError):  # receive_str meets the end of the connection
            return


class Browser:
    """Keeps a visitor's cookie, and remembers those that it replaced."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.number = number
        self._crowd, self._cookie = crowd, None if number >= 0 else ""
        self._replaced: list[str] = []
        self._owner = f"u{number // 2}"  # two browsers are those of one account

    async def tab(self, number: int, chance: random.Random, leaves: float) -> None:
        """Send one order after the other."""
        orders = Orders(chance, number, self._crowd.tag, self._owner)
        await asyncio.sleep(chance.uniform(0, 0.02) if number else 0)
        while self._crowd.now() < leaves:
            order = orders.next()
            call = await self._crowd.send(self.number, chance, order, self.pick(chance, old=order.old_cookie))
            self.receive(call)
            if call.status is None or call.status == 503:
                await asyncio.sleep(chance.uniform(0.01, 0.1))

    async def sockets(self, number: int, chance: random.Random, leaves: float) -> None:
        """Open one socket after the other."""
        orders = Orders(chance, number, self._crowd.tag, self._owner)
        await asyncio.sleep(chance.uniform(0.05, 1))
        while (now := self._crowd.now()) < leaves:
            await self._crowd.converse(self, chance, orders, min(leaves, now + chance.uniform(*SOCKET_STAYS)))
            await asyncio.sleep(chance.uniform(0.05, 0.5))

    def pick(self, chance: random.Random, *, old: bool) -> str | None:
        """Return the cookie to send."""
        return chance.choice(self._replaced[-2:]) if old and self._replaced else self._cookie

    def receive(self, call: Call) -> None:
        """Keep the cookie that an answer set."""
        if call.given is None:
            return
        if self._cookie:
            self._replaced.append(self._cookie)
        self._cookie = call.given or None
