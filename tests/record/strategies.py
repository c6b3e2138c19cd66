"""Hypothesis strategies for the values that a session can hold."""

import datetime
from typing import Any

from hypothesis import strategies as st

from aiohttp_session_store.record.values import MAX_INTEGER, MIN_INTEGER, freeze

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from(["$", "$$", "$set", "$$set", "$5"])
)
offsets = st.integers(-86_399, 86_399).map(lambda seconds: datetime.timezone(datetime.timedelta(seconds=seconds)))
beyond_json = (
    st.binary(max_size=20)
    | st.uuids()
    | st.dates()
    | st.builds(
        lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=st.none() | offsets), st.integers(0, 1)
    )
    | st.decimals(allow_nan=False, allow_infinity=False)
)
keys = text | st.sampled_from(["$", "$$", "$set", "$$set", "$datetime"])
hashable = st.recursive(scalars | beyond_json, lambda inner: st.tuples(inner, inner), max_leaves=3)
#: What JSON can hold, and therefore what a record written by another program can hold.
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
values = st.recursive(
    scalars | beyond_json | st.sets(hashable, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)
#: What a record holds: values in their frozen form.
data = st.dictionaries(text, values.map(lambda value: freeze(value, "k")), max_size=5)


def typed(value: Any) -> Any:
    """Return a form of *value* in which ``==`` also compares types and the signs of zeros."""
    if isinstance(value, dict):
        return [(key, typed(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [typed(inner) for inner in value]
    if isinstance(value, set):
        return set, sorted(repr(typed(inner)) for inner in value)
    return type(value), repr(value)
