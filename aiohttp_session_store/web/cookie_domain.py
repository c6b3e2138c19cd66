"""What a cookie's domain can be, so that browsers keep the cookie."""

import re

from ..errors import ConfigurationError

# RFC 1123, section 2.1: a label has up to 63 letters, digits and hyphens. Browsers also take underscores.
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
# WHATWG URL Standard, "ends in a number checker": a host whose last label is a number is an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
# RFC 1035, section 2.3.4, without the trailing dot.
_LONGEST = 253


def check_domain(domain: object) -> None:
    """Refuse a domain for which browsers silently drop the cookie, as far as that is known without a list.

    Only a list knows that ``co.uk`` is a public suffix; that a name without a dot is one, everybody knows.

    Raises:
        ConfigurationError: Browsers would drop a cookie with this domain.

    References:
        RFC 6265bis, sections 5.1.3 and 5.7; publicsuffix.org, "Algorithm".
    """
    if domain is None:
        return
    if not isinstance(domain, str):
        raise ConfigurationError(
            f'a cookie domain must be a host name such as "example.org", or None, not of type {type(domain).__name__}'
        )
    fault = _fault(domain)
    if fault is not None:
        raise ConfigurationError(f'a cookie domain must be a bare host name such as "example.org", and {fault}')


def _fault(domain: str) -> str | None:
    """Return what is wrong with *domain*, in words that do not repeat it: a URL can hold a password."""
    labels = domain.split(".")
    if not domain or domain.isspace():
        return "this one is empty. Leave the domain out to send the cookie to this host only"
    if "/" in domain or "@" in domain:
        return "this one is a URL. Leave out the scheme, the path and the rest"
    if _NUMBER.fullmatch(labels[-1]) or "[" in domain or domain.count(":") > 1:
        return "this one is an IP address, which has no subdomains. Leave the domain out"
    if ":" in domain:
        return "this one has a port. Cookies do not know ports: leave it out"
    if "*" in domain:
        return "this one has a star. A domain always includes its subdomains: leave the star out"
    if not labels[0] or not labels[-1]:
        return "this one begins or ends with a dot. A domain always includes its subdomains: leave the dot out"
    if not domain.isascii():
        return 'this one has a character beyond ASCII. Write the form that begins with "xn--"'
    if len(domain) > _LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        return (
            "this one is none: its labels must have 1 to 63 letters, digits and hyphens each, between single dots, and"
            f" all of it at most {_LONGEST} characters"
        )
    if len(labels) == 1:
        return (
            "this one has no dot, so browsers take it for a public suffix, for which they keep no cookies. Leave the"
            " domain out to send the cookie to this host only"
        )
    return None
