"""What all tests share."""

import gc
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

# Without the deadline of 200 ms for each example: a busy machine stands still for longer. The examples are the same
# each time, so no change is refused for what another did. With `--hypothesis-profile=search` they are new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("same")


# The tests are very many objects that live to the end, and the garbage collector would look at all of them
# again and again: first while pytest finds them, and then in every test that asks for a collection.
@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def directories_of_pytest_are_not_temporary() -> Iterator[None]:
    """Keep the warning about directories for temporary files out of tests that look at what is logged."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("aiohttp_session_store.storages.filesystem.storage.is_temporary", lambda _: False)
        yield
