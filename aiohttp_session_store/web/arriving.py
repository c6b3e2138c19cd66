"""Which session the cookies of a request lead to, and what becomes of those cookies."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..engine.observing import COOKIE_SIGNATURE
from ..session.session import Session, state_of
from ..storages.base import SessionStorage
from ..tracebacks import hides_locals
from .app_sessions import AppSessions
from .cookie_signature import Opened
from .request_headers import has_value

_NOT_ENDED = (
    "With CookieStorage, a logout clears only the cookie of the present path and domain, so the visitor stays logged"
    " in by the other one. Use a storage on the server, or another SessionCookie(salt=...), which logs everybody out"
    " once"
)


class Arrival(NamedTuple):
    """The session that a request came with, or a new one.

    Attributes:
        session: The session.
        resend: The cookie value that the browser has, if it is to get it once more: under the cookie's present name,
            with a new signature, or for longer.
        cookies: The Cookie headers.
        seen: The cookie values in them that were looked up.  Others may lead to other live sessions.
        spent: The old names of cookies that the browser no longer needs once it has a new one.
        clears: A Set-Cookie header that clears the cookie of another library, or None.
        adopted: The session was taken over from that library.
    """

    session: Session
    resend: str | None = None
    cookies: Sequence[str] = ()
    seen: Sequence[str] = ()
    spent: frozenset[str] = frozenset()
    clears: str | None = None
    adopted: bool = False


async def find_session(app: AppSessions, headers: Any, *, headers_sent: bool) -> Arrival:
    """Return the session that the first live cookie leads to, one of another library, or a new one.

    A session that the request may not use is returned only if no other cookie leads to one.

    Args:
        app: The sessions of the app.
        headers: Those of the request.
        headers_sent: Those of the response are sent, so that no cookie can be sent any more.

    Raises:
        StorageError: The storage failed.
    """
    storage, cookie, lines = app.storage, app.cookie, headers.getall("Cookie", ())
    session: Session | None = None
    told = app.observing
    candidates = _candidates_and_others(app, lines) if told.observers else cookie.candidates(lines)
    barred: tuple[int, Session] | None = None
    for number, candidate in enumerate(candidates):
        session = await storage.read(candidate.value)
        state = state_of(session)
        if state.refused is not None:
            told.tell("refused", state.refused.key, state.refused.owner, state.refused.reason)
        if state.place is not None:
            if app.guard is None or app.guard.admits(session, lines):
                return await _arrival(app, session, candidates, number, lines, headers_sent=headers_sent)
            barred = barred or (number, session)
    if barred is not None:
        number, session = barred
        return await _arrival(app, session, candidates, number, lines, headers_sent=headers_sent)
    seen, spent = [one.value for one in candidates], old_names(app, candidates)
    if app.adopter is not None and not headers_sent:  # adopting needs a cookie
        adopted = await app.adopter.adopt(lines)
        if adopted is not None:
            if app.owner_of is not None:
                await _own(storage, adopted.session, app.owner_of)
            return Arrival(adopted.session, None, lines, seen, spent, adopted.clear, adopted=True)
    return Arrival(session if session is not None else await storage.read(None), None, lines, seen, spent)


async def _arrival(
    app: AppSessions,
    session: Session,
    candidates: Sequence[Opened],
    number: int,
    lines: Sequence[str],
    *,
    headers_sent: bool,
) -> Arrival:
    """Return the arrival of *session*, which the cookie of this *number* leads to."""
    storage, cookie, state, candidate = app.storage, app.cookie, state_of(session), candidates[number]
    if app.owner_of is not None:
        await _own(storage, session, app.owner_of)
    clears = None if app.adopter is None else await app.adopter.spend(lines)
    # A session in a cookie is sent again when it is extended, so its cookie does not say when it was sent.
    kept = app.seconds_kept(session) if state.on_server or cookie.persistent else None
    left = None if kept is None else app.seconds_left(session)
    # A regenerated id is not sent again, because it would replace its successor in the browser.
    due = cookie.is_due(candidate, storage.now(), left, kept) and not headers_sent and not state.led_on
    seen = [one.value for one in candidates[: number + 1]]
    spent = old_names(app, (one for one in candidates if one.value in seen))
    return Arrival(session, candidate.value if due else None, lines, seen, spent, clears)


def _candidates_and_others(app: AppSessions, lines: Sequence[str]) -> list[Opened]:
    """Return the cookies with our signature, and tell observers of those without."""
    others: list[None] = []
    candidates = app.cookie.candidates(lines, refused=lambda: others.append(None))
    if not candidates and not others and has_value(lines, app.cookie.name):
        others.append(None)  # of characters that ours never have
    for _ in others:
        app.observing.tell("refused", None, None, COOKIE_SIGNATURE)
    return candidates


def others_than(app: AppSessions, cookies: Sequence[str], seen: Sequence[str]) -> list[Opened]:
    """Return the cookies with our signature in Cookie headers, except those whose values were *seen* before."""
    return [one for one in app.cookie.candidates(cookies, every=True) if one.value not in seen]


@hides_locals
async def end_all(app: AppSessions, cookies: Sequence[Opened], lines: Sequence[str]) -> None:
    """End the sessions that *cookies* lead to, except those that the request may not use.

    Args:
        app: The sessions of the app.
        cookies: Those of our name.
        lines: The Cookie headers that they came in.

    Raises:
        StorageError: The storage failed.
    """
    for cookie in cookies:
        session = await app.storage.read(cookie.value)
        if not session.new and (app.guard is None or app.guard.admits(session, lines)):
            session.destroy()
            await app.storage.save(session)
            app.warn_once(
                "twins",
                "a browser sent several session cookies named %s, which led to different sessions. They come from"
                " another path or domain of the cookie. %s",
                app.cookie.name,
                "A logout ends all of these sessions" if state_of(session).on_server else _NOT_ENDED,
            )


def old_names(app: AppSessions, cookies: Iterable[Opened]) -> frozenset[str]:
    """Return those names of *cookies* that the cookie of *app* had before."""
    if not app.cookie.old_names:
        return frozenset()
    return frozenset(cookie.name for cookie in cookies) - {app.cookie.name}


async def _own(storage: SessionStorage, session: Session, owner_of: Callable[[Session], str | None]) -> None:
    """Give a session from before ``login`` was used its owner, at its first load."""
    while session.owner is None and (owner := owner_of(session)) is not None:
        before = state_of(session).place
        await storage.adopt(session, owner)
        if state_of(session).place is before:  # it has ended, or another request has changed its id
            return
