"""What can happen to the session of an owner: each of these is one request, or one call of an administrator."""

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp_session_store import KeyedStorage, Session

Operation = Callable[[KeyedStorage, Session, str], Coroutine[Any, Any, str | None]]


async def login(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session.login(owner)
    return await storage.save(session)


async def login_of_another(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session.login(f"{owner} II")
    return await storage.save(session)


async def first_login(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session = await storage.read(None)
    session.login(owner)
    return await storage.save(session)


async def one_login_too_many(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    storage.max_sessions_per_owner = 1
    try:
        return await first_login(storage, session, owner)
    finally:
        storage.max_sessions_per_owner = None


async def renewal(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session.regenerate_id()
    return await storage.save(session)


async def rotation(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session.regenerate_id(True)
    return await storage.save(session)


async def logout(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    session.logout()
    return await storage.save(session)


async def ending(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    await storage.end_sessions(owner)
    return None


async def ending_of_one(storage: KeyedStorage, session: Session, owner: str) -> str | None:
    await storage.end_session(owner, session.key)
    return None


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        login,
        login_of_another,
        first_login,
        one_login_too_many,
        renewal,
        rotation,
        logout,
        ending,
        ending_of_one,
    )
}
