"""What MkDocs does besides building the pages."""

import re
from typing import Any

# A search finds the page about a thing before those that mention it, and a record of a decision last.
_BOOSTS = {
    "accounts.md": 4,
    "choosing-a-storage.md": 1.5,
    "coming-from.md": 0.7,
    "cookbook/": 1.2,
    "cookbook/index.md": 0.5,
    "cookbook/multiple-workers.md": 2,
    "cookies.md": 2,
    "decisions/": 0.1,
    "filesystem.md": 2,
    "migrating.md": 1.5,
    "operating.md": 1.5,
    "performance.md": 0.5,
    "postgres.md": 2,
    "redis.md": 2,
    "reference/": 0.3,
    "timeouts.md": 4,
}
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(?:~[\w.]*\.)?(?=\w)")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Rank *page* in the search by where it is."""
    for place, boost in _BOOSTS.items():
        if page.file.src_uri.startswith(place):
            page.meta["search"] = {"boost": boost}
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Return *html* without the marks of reStructuredText, such as ``:meth:`` and double colons."""
    return _ROLE.sub("<code>", html).replace("::</p>", ":</p>")
