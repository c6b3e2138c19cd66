"""The real Sentry SDK with its defaults, but for a transport that keeps the events in memory."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport


class Tracker(Transport):
    """Keeps what would be sent to Sentry.

    Attributes:
        events: The events, as they would be sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep the events, and drop statistics."""
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]

    @property
    def text(self) -> str:
        """All events as text, without the lines of source code in them."""
        for frame in self.frames():
            for part in ("pre_context", "context_line", "post_context"):
                frame.pop(part, None)
        return json.dumps(self.events, ensure_ascii=False)

    def frames(self) -> list[Any]:
        """Return the frames of all events."""
        raised = [value for event in self.events for value in event.get("exception", {}).get("values", ())]
        return [frame for value in raised for frame in (value.get("stacktrace") or {}).get("frames", ())]

    def functions(self) -> set[str]:
        """Return the functions of this package that the events name."""
        return {frame["function"] for frame in self.frames() if "/aiohttp_session_store/" in frame["abs_path"]}


@contextmanager
def sentry() -> Iterator[Tracker]:
    """Record errors as an app does that has called ``sentry_sdk.init``, and logs tracebacks of a failing storage."""
    tracker, logger = Tracker(), logging.getLogger("aiohttp_session_store")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    sentry_sdk.init(dsn="http://public@localhost/1", transport=tracker)
    try:
        yield tracker
    finally:
        logger.setLevel(level)
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)


def frames_of(error: BaseException) -> list[Any]:
    """Return all frames of *error* and of the errors that it came from."""
    todo, seen, frames = [error], set[int](), []
    while todo:
        one = todo.pop()
        if id(one) not in seen:
            seen.add(id(one))
            traceback = one.__traceback__
            while traceback is not None:
                frames.append(traceback.tb_frame)
                traceback = traceback.tb_next
            todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return frames
