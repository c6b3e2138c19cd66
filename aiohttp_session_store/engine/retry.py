"""Pacing the repetitions of a compare-and-set that lost a race."""

import asyncio
import random
import time

from ..errors import StorageError

# A record that still changes under us after this many seconds points at a broken storage, not at a busy visitor.
MAX_SECONDS = 5.0
_MAX_PAUSE = 0.05


class Attempts:
    """Paces a compare-and-set loop: at once after the first conflict, then after random pauses, then not at all."""

    def __init__(self, key: str) -> None:
        """Prepare for attempts on the record of *key*; the time limit starts with the first conflict."""
        self._key = key
        self._conflicts = 0
        self._deadline = 0.0

    async def conflict(self) -> None:
        """Wait before the next attempt.

        Raises:
            StorageError: The time is up.
        """
        self._conflicts += 1
        if self._conflicts == 1:
            self._deadline = time.monotonic() + MAX_SECONDS
        if time.monotonic() > self._deadline:
            raise StorageError(f"session {self._key} kept changing for {MAX_SECONDS:g} s: the change was not stored")
        if self._conflicts > 1:
            longest = min(_MAX_PAUSE, 0.001 * 2**self._conflicts)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  spreads retries, keeps no secret
