"""What all tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# Without the deadline of 200 ms for each example: a busy machine stands still for longer. The examples are the same
# each time, so no change is refused for what another did. With `--hypothesis-profile=search` they are new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def directories_of_pytest_are_not_temporary() -> Iterator[None]:
    """Keep the warning about directories for temporary files out of tests that look at what is logged."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("aiohttp_session_store.storages.filesystem.storage.is_temporary", lambda _: False)
        yield
