"""DSNs are checked while the app is built, and no error and no line of the log ever holds a password."""

import inspect
import logging
import random
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg import connect_utils

from aiohttp_session_store import ConfigurationError, StorageError
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.postgres.dsn import checked

SECRET = "S3cr3t"

REFUSED = [
    # a special character in the password
    f"postgresql://u:{SECRET}#x@h/db",
    f"postgresql://u:#{SECRET}@h/db",
    f"postgresql://u:1234#{SECRET}@h/db",
    f"postgresql://u:{SECRET}/x@h/db",
    f"postgresql://u:1234/{SECRET}@h/db",
    f"postgresql://u:{SECRET}?x@h/db",
    f"postgresql://u:1234?{SECRET}@h/db",
    f"postgresql://u:1234?a={SECRET}@h/db",
    f"postgresql://u:{SECRET}@x@h/db",
    f"postgresql://u:a@{SECRET}?b=c@h/db",
    f"postgresql://u:a@{SECRET}/b@h/db",
    f"postgresql://u:{SECRET}[x@h/db",
    f"postgresql://u:[{SECRET}@h/db",
    f"postgresql://u:{SECRET}]x@h/db",
    f"postgresql://u:{SECRET}\u2100@h/db",
    f"postgresql://u:{SECRET}\n@h/db",
    f"postgresql://u:{SECRET}\x00@h/db",
    f"postgresql://u:{SECRET}%00@h/db",
    f"postgresql://u:{SECRET}%E4@h/db",
    f"postgresql://u:{SECRET}\udc80@h/db",
    # another scheme, or none
    f"postgres//u:{SECRET}@h/db",
    f"postgresql:u:{SECRET}@h/db",
    f"postgresql+asyncpg://u:{SECRET}@h/db",
    f"mysql://u:{SECRET}@h/db",
    f"://u:{SECRET}@h/db",
    f"u:{SECRET}@h/db",
    f"{SECRET}://u:p@h/db",
    f"host=h user=u password={SECRET}",
    SECRET,
    "",
    # hosts and ports
    f"postgresql:///u:{SECRET}@h/db",
    f"postgresql://u:{SECRET}@h:port/db",
    f"postgresql://h:{SECRET}/db",
    f"postgresql://u:{SECRET}@h:0/db",
    f"postgresql://u:{SECRET}@h:65536/db",
    f"postgresql://u:{SECRET}@h:{'9' * 5000}/db",
    f"postgresql://u:{SECRET}@h:-1/db",
    f"postgresql://u:{SECRET}@h:1_0/db",
    f"postgresql://u:{SECRET}@:5432/db",
    f"postgresql://u:{SECRET}@h,/db",
    f"postgresql://u:{SECRET}@[::1/db",
    f"postgresql://u:{SECRET}@[]/db",
    f"postgresql://u:{SECRET}@h/db?port=x",
    f"postgresql://u:{SECRET}@h/db?port={SECRET}",
    f"postgresql://u:{SECRET}@/db?host=h,",
    f"postgresql://u:{SECRET}@/db?host=h:{SECRET}",
    # parameters
    f"postgresql://u:{SECRET}@h/db?{SECRET}",
    f"postgresql://u@h/db?password={SECRET}&",
    f"postgresql://u:{SECRET}@h/db?sslmode={SECRET}",
    f"postgresql://u:{SECRET}@h/db?a&b=c",
]


@pytest.mark.parametrize("dsn", REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_refused_while_the_app_is_built_and_not_shown(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="from_dsn") as caught:
        PostgresStorage.from_dsn(dsn)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None, "logging shows it, and it may show a part of the DSN"
    shown = str(error) + repr(error) + "".join(traceback.format_exception(error, limit=0)) + caplog.text
    assert SECRET not in shown


@pytest.mark.parametrize("dsn", [None, 5, b"postgresql://u:secret@h/db", ["secret"]])
def test_what_is_no_string_is_named_by_its_type_alone(dsn: object) -> None:
    with pytest.raises(ConfigurationError, match=f"not {type(dsn).__name__}$") as caught:
        PostgresStorage.from_dsn(dsn)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://",
        "postgresql:///db",
        "postgres://h",
        "POSTGRESQL://u@h/db",
        f"postgresql://u:{SECRET}@h/db\n",
        f"postgresql://u:{quote('#/?@:[]% ü', safe='')}@h/db",
        f"postgresql://u:{SECRET}:x=&;,!$()*'+~-._@h/db",
        f"postgresql://u:{SECRET}@h1:1,h2,[::1]:3/db?target_session_attrs=primary",
        f"postgresql://u:{SECRET}@[fe80::1%25eth0]:5432/db",
        f"postgresql://u:{SECRET}@%2Frun%2Fpostgresql/db",
        f"postgresql://u:{SECRET}@/db?host=/run/postgresql&port=5433",
        f"postgresql:///db?user=ada@example.org&password={SECRET}&host=h1,h2&port=1,2",
        f"postgresql://u:{SECRET}@h/db?sslmode=verify-full&application_name=my app&options=-c%20a%3Db",
    ],
)
def test_what_the_driver_understands_is_taken(dsn: str) -> None:
    PostgresStorage.from_dsn(dsn)


def by_the_driver(dsn: str) -> Any:
    """Return the addresses and parameters that the driver finds in *dsn*."""
    parse = vars(connect_utils)["_parse_connect_dsn_and_args"]
    unset = dict.fromkeys(inspect.signature(parse).parameters)
    return parse(**unset | {"dsn": dsn, "passfile": "/nowhere", "ssl": False})


def test_whatever_stands_in_a_password_it_is_refused_or_understood_as_it_was_meant() -> None:
    """Compared with the driver, which may take a part of it for the host or the database, and connect there."""
    random.seed(1)
    taken = 0
    for _ in range(20_000):
        password = "".join(random.choices("a1:/?#@[]%,=&;+ \\\t\n!'\"ü\x00", k=random.randrange(1, 8)))
        dsn = f"postgresql://ada:{password}@host:5432/db{random.choice(['', '?application_name=x', '?a=b&c=d'])}"
        try:
            checked(dsn)
        except ConfigurationError:
            continue
        taken += 1
        addresses, parameters = by_the_driver(dsn)
        assert (addresses, parameters.user, parameters.database) == ([("host", 5432)], "ada", "db"), dsn
    assert taken > 1000


def test_a_percent_encoded_password_is_always_taken() -> None:
    random.seed(2)
    for _ in range(2_000):
        password = "".join(random.choices("a1:/?#@[]%,=&;+ \\\t\n!'\"ü", k=random.randrange(1, 8)))
        dsn = checked(f"postgresql://ada:{quote(password, safe='')}@host/db")
        assert by_the_driver(dsn)[1].password == password


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/db",
        f"postgresql://u:{SECRET}@h..{'x' * 70}/db",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?target_session_attrs=none",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/nowhere",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?gsslib=x",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode=require&ssl_min_protocol_version=x",
        f"postgresql://u:{SECRET}@h1:1,h2:2/db?host=a,b,c&port=1,2",
        f"postgresql://u:{SECRET}@/db?host=a,b,c&port=1,2",
    ],
)
async def test_what_fails_only_when_it_connects_is_a_storage_error_without_the_password(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    storage = PostgresStorage.from_dsn(dsn, timeout=2)
    with pytest.raises(StorageError) as caught:
        await storage.fetch("ab" * 32)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(storage))
    error: BaseException | None = caught.value
    while error is not None:  # logging hides the context of what was raised from None, but other tools show it
        assert SECRET not in f"{error}{error!r}"
        error = error.__context__
    await storage.aclose()
