"""A pytest plugin that runs asynchronous tests on uvloop, and fails those that run on another loop."""

import asyncio
import inspect
from collections.abc import Callable, Mapping

import pytest
import pytest_asyncio
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tell pytest-asyncio how to create its loops."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(autouse=True)
async def runs_on_uvloop(request: pytest.FixtureRequest) -> None:
    """Fail an asynchronous test if the hook above had no effect."""
    if inspect.iscoroutinefunction(request.function):
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
