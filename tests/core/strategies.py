"""What a session can hold, for hypothesis."""

from typing import Any

from hypothesis import strategies as st

from aiohttp_session_store.codec import MAX_INTEGER, MIN_INTEGER

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
data = st.dictionaries(text, values, max_size=5)


def typed(value: Any) -> Any:
    """Return *value* with its types and the signs of its zeros, which == does not look at."""
    if isinstance(value, dict):
        return [(key, typed(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return type(value), repr(value)
