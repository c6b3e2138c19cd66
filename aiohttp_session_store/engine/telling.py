"""Which events tell observers what has become of a session."""

from ..record.format import LOGIN, LOGOUT, RENEWED, REPLACED, Record
from ..record.head import Head
from ..record.session_id import key_of
from ..session.state import Login, Place, SessionState
from .observing import ADOPTED, CONFIRMED, Observing
from .verbs import Verbs

__all__ = [
    "owner_of",
    "tell_all_ended",
    "tell_created",
    "tell_left",
    "tell_merged",
    "tell_over",
    "tell_rotated",
    "tell_saved",
    "why_rotated",
]


def owner_of(record: Record) -> str | None:
    """Return the owner of a session, or None."""
    return None if record.head is None else record.head.owner


def tell_created(told: Observing, state: SessionState, key: str, head: Head | None, login: Login | None) -> None:
    """Tell that a session was stored for the first time, perhaps by a login."""
    owner = None if head is None else head.owner
    told.tell("created", key, owner, None if state.taken_over is None else ADOPTED)
    if login is not None:
        told.tell("logged_in", key, owner)


def tell_rotated(
    told: Observing,
    before: tuple[str, Head | None],
    now: tuple[str, Head | None],
    why: str,
) -> None:
    """Tell that a session has got another id, perhaps by a login.

    If somebody else was logged in before, their session has ended, and another one has begun.

    Args:
        told: Whom to tell.
        before: Its key and head from before.
        now: Its key and head.
        why: The reason, as :func:`why_rotated` says.
    """
    (old_key, old_head), (key, head) = before, now
    owner = None if head is None else head.owner
    if why == LOGIN and old_head is not None and old_head.owner != owner:
        told.tell_end(old_key, old_head, REPLACED)
        told.tell("created", key, owner)
    else:
        told.tell("rotated", key, owner, why)
    if why == LOGIN:
        told.tell("logged_in", key, owner)


def why_rotated(*, login: bool, delete_old: bool, confirmed: bool) -> str:
    """Return the reason for the event of a change of the id."""
    if login:
        return LOGIN
    if delete_old:
        return REPLACED
    return CONFIRMED if confirmed else RENEWED


def tell_over(storage: Verbs, place: Place) -> None:
    """Tell that a session has passed one of its limits, unless this process has told it already."""
    if storage.observing.observers:
        reason = storage.timeouts.passed(place.record, place.ends)
        storage.observing.tell_end(place.key, place.record.head, reason)


def tell_merged(told: Observing, written: Place) -> None:
    """Tell that a change met one of another request, and that both are stored."""
    told.tell("merged", written.key, owner_of(written.record))


# --- a session in the cookie, whose save makes no call


def tell_saved(told: Observing, state: SessionState, before: Head | None, now: Head | None) -> None:
    """Tell what a save is about to do, given the head of the session from before and from now on."""
    tell_left(told, state)
    key = key_of(state.id)
    if state.place is None:
        tell_created(told, state, key, now, state.login)
    elif state.rotation is not None:
        rotation = state.rotation
        why = why_rotated(
            login=state.login is not None,
            delete_old=rotation.delete_old,
            confirmed=rotation.confirmed_at is not None,
        )
        tell_rotated(told, (key_of(rotation.original_id), before), (key, now), why)


def tell_left(told: Observing, state: SessionState) -> None:
    """Tell of the sessions that this one takes the place of."""
    if state.replaces is not None:
        tell_all_ended(told, state.replaces, REPLACED)
    if state.logged_out is not None:
        tell_all_ended(told, state.logged_out, LOGOUT)


def tell_all_ended(told: Observing, state: SessionState, why: str) -> None:
    """Tell of the end of a session, and of those that end with it."""
    for one in state.doomed():
        if one.place is not None:
            told.tell_end(key_of(one.stored_id), one.place.record.head, why)
