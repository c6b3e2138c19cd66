"""Tracebacks without local variables say the same as before, and harm nothing that still runs."""

import asyncio
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

import aiohttp_session_store
from aiohttp_session_store.tracebacks import hide_locals, hides_locals

SECRET = "a secret"


def fails(secret: str, depth: int = 3) -> None:
    if depth:
        fails(secret, depth - 1)
    try:
        raise OSError(len(secret))
    except OSError as error:
        raise ValueError(len(secret)) from error


def hides(error_of: BaseException | None = None) -> None:
    secret = SECRET
    try:
        if error_of is not None:
            raise error_of
        fails(secret)
    except BaseException as error:
        hide_locals(error)
        raise


def frames(error: BaseException | None) -> list[FrameType]:
    found, entry = [], None if error is None else error.__traceback__
    while entry is not None:
        found.append(entry.tb_frame)
        entry = entry.tb_next
    return found


def lines(error: BaseException) -> list[tuple[str, int | None, str]]:
    found: list[tuple[str, int | None, str]] = []
    shown: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    while shown is not None:
        found += [(one.filename, one.lineno, f"{one.name}: {one.line}") for one in shown.stack]
        shown = shown.__cause__
    return found


def test_the_text_of_a_traceback_stays_the_same() -> None:
    with pytest.raises(ValueError, match="8") as caught:
        fails(SECRET)
    before = lines(caught.value)

    hide_locals(caught.value)

    assert lines(caught.value)[1:] == before[1:]  # the first is this function, which calls hide_locals itself


def test_the_frame_that_hides_and_those_below_have_no_variables_and_those_above_keep_theirs() -> None:
    mine = SECRET
    with pytest.raises(ValueError, match="8") as caught:
        hides()

    above, *hidden = frames(caught.value)
    assert above.f_locals["mine"] is mine
    assert [frame.f_code.co_name for frame in hidden[:2]] == ["hides", "fails"]
    assert not [frame for frame in (*hidden, *frames(caught.value.__cause__)) if frame.f_locals]


def test_an_error_that_a_caller_is_handling_is_left_alone() -> None:
    mine = SECRET
    try:
        raise KeyError(len(mine))
    except KeyError:
        with pytest.raises(ValueError, match="8") as caught:
            hides()

    assert caught.value.__cause__
    outer = caught.value.__cause__.__context__
    assert isinstance(outer, KeyError)
    assert frames(outer)[0].f_locals["mine"] is mine


def test_the_errors_of_a_group_are_hidden_as_well() -> None:
    def failed() -> ValueError:
        with pytest.raises(ValueError, match="8") as caught:
            fails(SECRET)
        return caught.value

    with pytest.raises(ExceptionGroup) as group:
        hides(ExceptionGroup("two", [failed(), failed()]))

    inner = [frame for error in group.value.exceptions for frame in frames(error) if frame.f_code.co_name == "fails"]
    assert len(inner) == 8
    assert not [frame for frame in inner if frame.f_locals]


def test_an_error_that_cannot_be_assigned_to_is_hidden_as_well() -> None:
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    with pytest.raises(FrozenError) as caught:
        hides(FrozenError(7))

    assert not frames(caught.value)[1].f_locals


def test_errors_that_come_from_each_other_in_a_circle_are_hidden() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one

    with pytest.raises(ValueError, match="one") as caught:
        hides(one)

    assert not frames(caught.value)[1].f_locals


async def test_a_task_that_caught_the_error_and_goes_on_is_not_harmed() -> None:
    """Clearing the frames, as ``traceback.clear_frames`` does, ends that task on Python 3.11 and 3.12."""
    handed: asyncio.Future[ValueError] = asyncio.get_running_loop().create_future()
    goes_on = asyncio.Event()

    async def reader() -> str:
        mine = SECRET
        try:
            fails(mine)
        except ValueError as error:
            handed.set_result(error)
            await goes_on.wait()
        return mine

    @hides_locals
    async def caller() -> None:
        raise await handed

    task = asyncio.create_task(reader())
    with pytest.raises(ValueError, match="8") as caught:
        await caller()
    goes_on.set()

    assert await task == SECRET
    assert not [frame for frame in frames(caught.value)[1:] if frame.f_locals]


def test_every_error_that_is_logged_below_the_web_is_hidden_before() -> None:
    """An error in the web has left the storage already, and was hidden there."""
    package = Path(aiohttp_session_store.__file__).parent
    found = 0
    for room in ("record", "session", "engine", "storages", "migrate"):
        for path in (package / room).rglob("*.py"):
            code = path.read_text().splitlines()
            for number, line in enumerate(code):
                if re.search(r"exc_info=|[.]exception\(\"", line):
                    found += 1
                    assert any("hide_locals(error)" in before for before in code[number - 3 : number]), (path, line)
    assert found == 5  # a failing storage is logged without its traceback, unless somebody debugs
