"""Versions that name the ones before them, so that a write whose answer was lost can be found under later writes."""

import secrets

__all__ = ["became_of", "first_version", "next_version"]

# A version is a list of random names of this many bytes each: its own name, and those of the versions before it, newest
# first. Each one replaced the next one. The first version of a record replaced nothing, which has a name, too.
_NAME = 8
_NOTHING = bytes(_NAME)
# Names in a version: its own and eight others, as many as a record keeps of the writes with additions.
_MOST = 9


def first_version() -> bytes:
    """Return a version for a record that is created."""
    return secrets.token_bytes(_NAME) + _NOTHING


def next_version(base: bytes) -> bytes:
    """Return a version for a record that replaces the one at *base*."""
    return secrets.token_bytes(_NAME) + base[: _NAME * (_MOST - 1)]


def became_of(version: bytes, standing: bytes | None) -> bool | None:
    """Return what became of a write that was sent again, and then found neither its base nor its own version.

    Args:
        version: What :func:`first_version` or :func:`next_version` gave for the write.
        standing: The version at which the record stands now, or None if it is gone.

    Returns:
        True: it was carried out, and others have replaced it since.  False: it was not carried out; or the record that
        it was to replace is gone, so that the session has ended in any case.  None: nobody can know.  Too many others
        have written since, or a process of the release before has, whose versions name no others; or the record that it
        was to create has been deleted.
    """
    own, base = version[:_NAME], version[_NAME : 2 * _NAME]
    if standing is None:
        return None if base == _NOTHING else False
    names = [standing[at : at + _NAME] for at in range(0, len(standing), _NAME)]
    if own in names:
        return True
    return False if base in names else None
