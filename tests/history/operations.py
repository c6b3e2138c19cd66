"""What visitors do: orders for the handlers, made at random."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.history.history import CHAIN, FLASH, Step

SHARED = ("a", "b", "c")
LONGEST_PAUSE = 0.03
# What is tried more often with a cookie that was replaced.
RARE = ("regenerate", "destroy", "new")


@dataclass
class Order:
    """One request that a visitor is about to send."""

    steps: list[Step] = field(default_factory=list)
    end: str = "ok"
    exclusive: bool = False
    hang_up_after: float | None = None
    # Whether the visitor sends a cookie that was replaced since.
    old_cookie: bool = False


class Orders:
    """Makes the orders of one tab of a browser."""

    def __init__(self, chance: random.Random, tab: int, next_tag: Callable[[], str], owner: str) -> None:
        self._chance, self._tag = chance, next_tag
        self._keys = (*SHARED, f"own{tab}")
        self._owner = owner

    def next(self) -> Order:
        """Return the next order."""
        chance = self._chance
        make, weights = zip(*self._KINDS, strict=True)
        order: Order = chance.choices(make, weights)[0](self)
        order.old_cookie = chance.random() < (0.4 if any(step[0] in RARE for step in order.steps) else 0.12)
        if chance.random() < 0.03:
            order.hang_up_after = chance.uniform(0, LONGEST_PAUSE)
        return order

    def message(self) -> list[Step]:
        """Return what a message on a socket asks for."""
        if self._chance.random() < 0.03:
            return [["destroy"]]
        return self._changes() if self._chance.random() < 0.8 else []

    def opening(self) -> list[Step]:
        """Return what is done before the handshake of a socket."""
        return self._changes() if self._chance.random() < 0.5 else []

    # --- the kinds

    def _read(self) -> Order:
        return Order()

    def _write(self) -> Order:
        return Order([*self._pause(), *self._changes(), *self._pause()], end=self._chance.choice(["ok", "redirect"]))

    def _write_in_two(self) -> Order:
        return Order([*self._changes(), ["save"], *self._pause(), *self._changes()], end=self._any_end())

    def _flash(self) -> Order:
        return Order([*self._pause(), self._flashed(), *self._maybe(self._changes())], end=self._any_end())

    def _keep(self) -> Order:
        return Order([["keep"], *self._pause()])

    def _ask(self) -> Order:
        return Order([*self._pause(), ["save"], *self._pause()])

    def _discard(self) -> Order:
        return Order([*self._changes(), ["discard"], *self._maybe(self._changes())])

    def _fail(self) -> Order:
        end = self._chance.choice(["status", "raise", "crash"])
        return Order([*self._changes(), *self._pause(), *self._maybe([["regenerate", self._coin()]])], end)

    def _renew(self) -> Order:
        steps = [*self._pause(), *self._maybe(self._changes()), ["regenerate", False], *self._pause()]
        return Order([*steps, *self._maybe(self._changes()), *self._maybe([self._flashed()])], self._any_end())

    def _confirm(self) -> Order:
        steps = [*self._pause(), *self._maybe(self._changes()), ["regenerate", False, None], *self._pause()]
        return Order([*steps, *self._maybe(self._changes())], self._any_end())

    def _shorten(self) -> Order:
        return Order([*self._pause(), ["shorten", self._chance.randrange(1000)], *self._maybe(self._changes())])

    def _login(self) -> Order:
        login: Step = ["regenerate", True, *([self._owner, self._coin()] if self._chance.random() < 0.8 else [])]
        steps = [*self._pause(), *self._maybe(self._changes()), login, *self._pause()]
        return Order([*steps, *self._maybe(self._changes())], self._any_end())

    def _logout(self) -> Order:
        return Order([*self._pause(), *self._maybe(self._changes()), self._ending(), *self._pause()])

    def _failed_logout(self) -> Order:
        return Order([*self._pause(), *self._changes(), self._ending()], self._chance.choice(["status", "crash"]))

    def _end_all(self) -> Order:
        return Order([*self._pause(), ["end", self._owner, self._coin()]])

    def _list(self) -> Order:
        return Order([*self._pause(), ["list", self._owner]])

    def _replace(self) -> Order:
        before = self._maybe([*self._changes(), ["save"]])
        return Order([*before, *self._pause(), ["new"], *self._changes()], self._any_end())

    def _exclusive(self) -> Order:
        steps: list[Step] = [
            ["pause", self._moment()],
            ["set", CHAIN, self._tag()],
            *self._maybe(self._changes()),
            *self._pause(),
        ]
        if self._chance.random() < 0.06:
            steps.append(["regenerate", self._coin()])
        return Order(steps, self._chance.choice(["ok", "ok", "ok", "redirect", "crash"]), exclusive=True)

    _KINDS = (
        (_read, 30),
        (_write, 24),
        (_write_in_two, 4),
        (_flash, 7),
        (_keep, 1),
        (_ask, 2),
        (_discard, 1),
        (_fail, 5),
        (_renew, 6),
        (_confirm, 3),
        (_shorten, 2),
        (_login, 6),
        (_list, 4),
        (_end_all, 0.8),
        (_logout, 1.6),
        (_failed_logout, 0.4),
        (_replace, 0.8),
        (_exclusive, 14),
    )

    # --- parts of them

    def _ending(self) -> Step:
        return ["destroy", "logout"] if self._coin() else ["destroy"]

    def _coin(self) -> bool:
        return self._chance.random() < 0.5

    def _maybe(self, steps: list[Step]) -> list[Step]:
        return steps if self._coin() else []

    def _any_end(self) -> str:
        return self._chance.choices(["ok", "redirect", "status", "crash"], [6, 2, 1, 1])[0]

    def _pause(self) -> list[Step]:
        return self._maybe([["pause", self._moment()]])

    def _moment(self) -> float:
        return round(self._chance.uniform(0, LONGEST_PAUSE), 4)

    def _flashed(self) -> Step:
        tag = self._tag()
        return ["flash", FLASH + tag, tag]

    def _changes(self) -> list[Step]:
        if self._chance.random() < 0.02:
            return [["clear"], *self._maybe([self._change()])]
        return [self._change() for _ in range(self._chance.choice([1, 1, 2, 3]))]

    def _change(self) -> Step:
        key = self._chance.choice(self._keys)
        kind = self._chance.choices(["set", "append", "unset", "add"], [6, 3, 1, 4])[0]
        if kind == "add":
            return ["add", self._tag()]
        return ["unset", key] if kind == "unset" else [kind, key, self._tag()]
