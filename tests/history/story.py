"""Writes histories by hand, for the tests of the judge."""

from typing import Any

from tests.history.history import Call, History, Step
from tests.history.judge import judge


class Story:
    """Writes a history: each call begins when the one before was answered, unless its times are given."""

    def __init__(self, *, faults: bool = False, grace: float = 60.0) -> None:
        self.history = History(grace=grace, faults=[("restart", 0.0, 1e9)] if faults else [])
        self._now = 0.0
        self._first: dict[str, str] = {}

    def call(self, cookie: str | None, *steps: Step, at: tuple[float, float | None] | None = None, **more: Any) -> Call:
        sent, answered = at or (self._now + 1, self._now + 2)
        self._now = max(self._now, answered or 0)
        told: dict[str, Any] = {"status": 200, "data": self._first if cookie else {}, "new": cookie is None} | more
        if answered is None:
            told |= {"status": None, "data": None, "new": None}
        call = Call(len(self.history.calls), steps=list(steps), cookie=cookie, sent=sent, answered=answered, **told)
        self.history.calls.append(call)
        return call

    def begin(self, *steps: Step) -> None:
        """Create a session, whose cookie is c1.  If nothing else is said, later calls read first=t0."""
        self.call(None, *(steps or (["set", "first", "t0"],)), given="c1")
        self._first = {} if steps else {"first": "t0"}

    def read(self, cookie: str = "c1", at: tuple[float, float | None] | None = None, **data: Any) -> Call:
        return self.call(cookie, at=at, data=data)

    def gone(self, cookie: str = "c1", at: tuple[float, float | None] | None = None) -> Call:
        return self.call(cookie, at=at, new=True, data={})

    def message(self, *steps: Step, saved: bool, cookie: str = "c1") -> Call:
        return self.call(cookie, *steps, kind="message", data=None, new=None, saved=[saved])

    def rules(self) -> set[str]:
        return {verdict.rule for verdict in judge(self.history)}


SET_A = ["set", "a", "t1"]
LOGOUT: Step = ["destroy"]
RENEW: Step = ["regenerate", False]
LOGIN: Step = ["regenerate", True]
