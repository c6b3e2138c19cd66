"""What all tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# Without the deadline of 200 ms for each example: a busy machine stands still for longer.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def directories_of_pytest_are_not_temporary() -> Iterator[None]:
    """Keep the warning about directories for temporary files out of tests that look at what is logged."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("aiohttp_session_store.storages.filesystem.storage.is_temporary", lambda _: False)
        yield
