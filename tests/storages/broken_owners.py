"""Storages whose index of owners is broken on purpose."""

import asyncio

from tests.storages.plain import PlainStorage


class LinkThatShowsAKeyTwice(PlainStorage):
    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._linked: list[tuple[str, str]] = []

    async def link(self, owner_key: str, key: str, until: int) -> None:
        self._linked.append((owner_key, key))

    async def unlink(self, owner_key: str, key: str) -> None:
        self._linked = [entry for entry in self._linked if entry != (owner_key, key)]

    async def linked(self, owner_key: str) -> list[str]:
        return [key for owner, key in self._linked if owner == owner_key]


class UnlinkThatDoesNothing(PlainStorage):
    async def unlink(self, owner_key: str, key: str) -> None:
        pass


class UnlinkForAllOwners(PlainStorage):
    async def unlink(self, owner_key: str, key: str) -> None:
        for owner in list(self._owners):
            await super().unlink(owner, key)


class OneIndexForAll(PlainStorage):
    async def linked(self, owner_key: str) -> list[str]:
        return sorted({key for keys in self._owners.values() for key in keys})


class LinkThatWritesBackWhatItRead(PlainStorage):
    async def link(self, owner_key: str, key: str, until: int) -> None:
        entries = dict(self._owners.get(owner_key, {}))
        await asyncio.sleep(0)
        self._owners[owner_key] = {**entries, key: until}
