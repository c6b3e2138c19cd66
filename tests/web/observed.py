"""An observer that remembers, an app in which everything happens, and the story that every storage has to tell."""

from collections import Counter
from typing import Any

from aiohttp import web

from aiohttp_session_store import (
    Observer,
    SessionCookie,
    SessionEvent,
    SessionStorage,
    get_session,
    get_storage,
    new_session,
    setup,
)
from aiohttp_session_store.engine.observing import OUTCOMES, REASONS
from aiohttp_session_store.engine.timed_calls import TIMED
from tests.web.storages import SECRET
from tests.web.visits import Client, visit


class Recorder(Observer):
    """Remembers what it was told, and what of it is not documented."""

    def __init__(self) -> None:
        self.undocumented: list[object] = []  # an assertion here would not fail a test
        self.events: list[SessionEvent] = []
        self.calls: list[tuple[str, str]] = []

    def on_event(self, event: SessionEvent) -> None:
        if event.reason not in REASONS[event.kind]:
            self.undocumented.append(event)
        self.events.append(event)

    def on_call(self, verb: str, seconds: float, outcome: str) -> None:
        if verb not in TIMED or outcome not in OUTCOMES or not 0 <= seconds < 120:
            self.undocumented.append((verb, seconds, outcome))
        self.calls.append((verb, outcome))

    def expect(self, *told: tuple[str, str | None, str | None]) -> None:
        """See that exactly these events came since the last time: kind, owner and reason."""
        events = self.take()
        assert not self.undocumented
        if events != list(told):
            raise AssertionError(f"told {events}, and not {list(told)}")

    def take(self) -> list[tuple[str, str | None, str | None]]:
        """Return kind, owner and reason of the events since the last time."""
        events, self.events = self.events, []
        return [(one.kind, one.owner, one.reason) for one in events]

    def take_calls(self) -> Counter[str]:
        """Return how often each verb was called since the last time."""
        calls, self.calls = self.calls, []
        return Counter(verb for verb, _ in calls)


async def act(request: web.Request) -> web.Response:
    """Do what the query says, and answer with the key of the session and the status that it says."""
    session, asked = await get_session(request), request.query
    if "new" in asked:
        session = await new_session(request)
    if "logout" in asked:
        session.logout()
    if "set" in asked:
        session[asked["set"]] = 1
    if "login" in asked:
        session.login(asked["login"])
    if "regenerate" in asked:
        session.regenerate_id(asked["regenerate"] == "true")
    if "confirm" in asked:
        session.confirm_login()
    if "destroy" in asked:
        session.destroy()
    if "end_sessions" in asked:
        await get_storage(request).end_sessions(asked["end_sessions"])
    if "end_session" in asked:
        await get_storage(request).end_session(asked["end_session"], session.key)
    return web.Response(text=session.key, status=int(asked.get("status", "200")))


def observed_app(storage: SessionStorage, observer: Observer | None, **options: Any) -> web.Application:
    app = web.Application()
    setup(app, storage, cookie=SessionCookie(secrets=SECRET), observer=observer, **options)
    app.router.add_get("/", act)
    return app


async def tell_story(client: Client, recorder: Recorder, *, on_server: bool = True) -> None:
    """Do to a session what can be done to one, and see that each fact is told once, with its owner and reason."""

    async def asks(query: str, cookie: str | None = None) -> str:
        """Return the cookie from then on."""
        answer = await visit(client, f"/?{query}", cookie)
        assert answer.status == 200
        recorder.last = answer.text  # type: ignore[attr-defined]
        return answer.cookie if answer.set_cookie else cookie or ""

    assert await asks("") == ""
    recorder.expect()

    cookie = await asks("set=a")
    [created] = recorder.events
    assert created.key == recorder.last  # type: ignore[attr-defined]
    recorder.expect(("created", None, None))

    cookie = await asks("set=b", cookie)
    await asks("", cookie)
    recorder.expect()

    cookie = await asks("regenerate=false", cookie)
    recorder.expect(("rotated", None, "renewed"))

    cookie = await asks("login=ada", cookie)
    recorder.expect(("rotated", "ada", "login"), ("logged_in", "ada", None))

    cookie = await asks("confirm=1", cookie)
    recorder.expect(("rotated", "ada", "confirmed"))

    cookie = await asks("regenerate=true", cookie)
    [rotated] = recorder.events
    assert rotated.key == recorder.last  # type: ignore[attr-defined]
    recorder.expect(("rotated", "ada", "replaced"))

    before = rotated.key
    cookie = await asks("login=bob", cookie)
    [ended, *_] = recorder.events
    assert ended.key == before
    recorder.expect(("ended", "ada", "replaced"), ("created", "bob", None), ("logged_in", "bob", None))

    cookie = await asks("new=1&set=c", cookie)
    recorder.expect(("ended", "bob", "replaced"), ("created", None, None))

    spent = cookie
    await asks("logout=1", cookie)
    recorder.expect(("ended", None, "logout"))

    cookie = await asks("login=cleo")
    recorder.expect(("created", "cleo", None), ("logged_in", "cleo", None))
    await asks("logout=1&set=bye", cookie)
    recorder.expect(("ended", "cleo", "logout"), ("created", None, None))

    cookie = await asks("login=dan")
    recorder.take()
    await asks("destroy=1", cookie)
    recorder.expect(("ended", "dan", "logout"))

    await asks("", "forged.value")
    recorder.expect(("refused", None, "cookie_signature"))

    if on_server:
        await asks("", spent)
        recorder.expect(("refused", None, "record_ended"))
        await _revoke(asks, recorder)


async def _revoke(asks: Any, recorder: Recorder) -> None:
    one, _ = await asks("login=eve"), await asks("login=eve")
    recorder.take()
    await asks("end_sessions=eve")
    recorder.expect(("ended", "eve", "revoked"), ("ended", "eve", "revoked"))
    await asks("end_sessions=eve")
    recorder.expect()
    await asks("", one)
    recorder.expect(("refused", None, "record_ended"))

    cookie = await asks("login=eve")
    recorder.take()
    await asks("end_session=eve", cookie)
    recorder.expect(("ended", "eve", "revoked"))

    for _ in range(4):  # the limit is three
        cookie = await asks("login=fred")
    told = recorder.take()
    assert [one for one in told if one[0] == "ended"] == [("ended", "fred", "too_many")]
    assert told.count(("created", "fred", None)) == 4
