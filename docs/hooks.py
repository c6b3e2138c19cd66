"""What MkDocs does besides building the pages: the roles of docstrings, such as ``:meth:``, are not shown."""

import re

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(?:~[\w.]*\.)?(?=\w)")


def on_page_content(html: str, **_: object) -> str:
    """Return *html* without the roles."""
    return _ROLE.sub("<code>", html)
