"""Every example runs as its docstring says.  Examples behind a server also have a test file of their own."""

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, build_opener

import pytest

from tests.docs.blocks import ROOT
from tests.examples.running import EXAMPLES, command_of, copy_of_examples, running
from tests.servers.ports import free_port


class NoRedirect(HTTPRedirectHandler):
    """Return redirects instead of following them."""

    def redirect_request(self, *_: object) -> None:
        """Return no new request."""


def get(url: str) -> tuple[int, str]:
    """Return the status and the body; for an error or a redirect, the Location header instead of the body."""
    try:
        with build_opener(NoRedirect).open(url, timeout=20) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers.get("Location", "")


@pytest.mark.parametrize(
    ("example", "status", "answer"),
    [
        ("security.py", 200, "<title>Log in</title>"),
        ("flash_templates.py", 200, '<form method="post" action="/buy">'),
        ("behind_nginx/app.py", 200, "Hello, stranger."),
        ("remotes.py", 308, "https://"),
    ],
)
def test_an_example_starts_answers_and_stops(example: str, status: int, answer: str, tmp_path: Path) -> None:
    port = free_port()
    copy_of_examples(tmp_path, port)

    with running(command_of(example), tmp_path, port):
        got = get(f"http://localhost:{port}/")

    assert got[0] == status
    assert answer in got[1]
    assert (tmp_path / "var/sessions/secret.key").exists()


def test_every_example_has_a_test() -> None:
    named = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))

    examples = [path.relative_to(ROOT / EXAMPLES).as_posix() for path in (ROOT / EXAMPLES).rglob("*.py")]

    assert len(examples) > 5
    assert [example for example in examples if example not in named] == []
