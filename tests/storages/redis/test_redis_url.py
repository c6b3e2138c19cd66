"""URLs that are valid, and URLs that are not, whose password no error and no log line repeats."""

import logging
import random
import traceback
from urllib.parse import quote

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from aiohttp_session_store import ConfigurationError
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.redis import RedisServer

SECRET = "hunter2"

MALFORMED = [
    # a reserved character in the password
    f"redis://user:{SECRET}#{SECRET}@host:6379/0",
    f"redis://user:{SECRET}/{SECRET}@host:6379/0",
    f"redis://user:{SECRET}?{SECRET}@host:6379/0",
    f"redis://user:{SECRET}[{SECRET}@host:6379/0",
    f"redis://user:{SECRET}]{SECRET}@host:6379/0",
    f"redis://user:[{SECRET}]{SECRET}@host:6379/0",
    f"redis://user:{SECRET}@[{SECRET}/0",
    f"redis://user:{SECRET}\n{SECRET}@host:6379/0",
    f"redis://user:{SECRET}%ff@host:6379/0",
    f"redis://user:{SECRET}\u2100@host:6379/0",  # as a and c with a slash between, by the rules for host names
    f"rediss://user:{SECRET}#@host:6379/0",
    f"rediss://user:{SECRET}/@host:6379/0",
    f"rediss://user:{SECRET}?@host:6379/0",
    f"unix://user:{SECRET}#@/run/redis.sock",
    f"unix://user:{SECRET}/@/run/redis.sock",
    f"unix://user:{SECRET}?@/run/redis.sock",
    f"unix://user:{SECRET}\n@/run/redis.sock",
    f"unix://user:@/{SECRET}@/run/redis.sock",
    # the same, where what comes before could be a port
    f"redis://:6379#{SECRET}@host:6379/0",
    f"redis://:6379/{SECRET}@host:6379/0",
    f"redis://:6379?{SECRET}@host:6379/0",
    f"redis://user:6379?{SECRET}=1@host",
    f"redis://user:a@b?{SECRET}@host:6379/0",
    f"redis://user:a@b/{SECRET}@host:6379/0",
    f"redis://user:a@b#{SECRET}@host:6379/0",
    # another scheme, or none
    f"redish://user:{SECRET}@host",
    f"http://user:{SECRET}@host",
    f"redis+sentinel://user:{SECRET}@host",
    f"user:{SECRET}@host",
    f"//user:{SECRET}@host",
    f"redis:user:{SECRET}@host",
    f"{SECRET}://host",
    SECRET,
    "",
    # several hosts
    f"redis://user:{SECRET}@one,two",
    f"redis://user:{SECRET}@one,two/0",
    f"redis://user:{SECRET}@one:6379,two:6379/0",
    f"redis://user:{SECRET}@one:6379,user:{SECRET}@two:6379/0",
    f"redis://user:{SECRET}@one:6379,user:{SECRET}@two,three",
    f"redis-cluster://user:{SECRET}@one",
    # ports, databases and options
    f"redis://host:{SECRET}",
    f"redis://user:{SECRET}@host:66666",
    f"redis://user:{SECRET}@host:-1",
    f"redis://user:{SECRET}@host/{SECRET}",
    f"redis://user:{SECRET}@host/0/1",
    f"redis://host?{SECRET}=1",
    f"redis://host?password={SECRET}&nonsense=1",
    f"redis://host?db={SECRET}",
    f"redis://host?socket_timeout={SECRET}",
    f"redis://host?protocol={SECRET}",
    f"redis://user:{SECRET}@host?protocol=17",
    f"redis://user:{SECRET}@host?path=/run/redis.sock",
    f"redis://user:{SECRET}@host?encoding={SECRET}",
    f"rediss://user:{SECRET}@host?ssl_ca_certs=/nowhere/{SECRET}",
    f"rediss://user:{SECRET}@host?ssl_cert_reqs={SECRET}",
    f"unix://user:{SECRET}@",
    f"unix://{SECRET}",
    f"unix://user:{SECRET}@host/run/redis.sock",
    f"unix:///run/redis.sock?db={SECRET}",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_refused_and_not_repeated(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match=r"RedisStorage\.from_url: the URL is not valid") as caught:
        RedisStorage.from_url(url)

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value)[-1:]) + repr(caught.value) + caplog.text
    assert SECRET not in shown
    assert "6379" not in shown


@pytest.mark.parametrize("url", ["redis+sentinel://one", "redis://one,two/0", "redis://one:6379,two:6379/0"])
def test_a_url_of_several_servers_is_refused_with_what_to_write_instead(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"RedisStorage\(Sentinel\(.*RedisStorage\(RedisCluster\("):
        RedisStorage.from_url(url)


@pytest.mark.parametrize("option", ["redis_connect_func", "credential_provider"])
async def test_an_option_that_only_a_connection_finds_wrong_is_refused_at_the_start(
    option: str, shared_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    storage = RedisStorage.from_url(f"{shared_server.url}?{option}={SECRET}")
    with pytest.raises(ConfigurationError, match=r"from_url: an option in the query of the URL has a wrong value") as e:
        await storage.start()
    await storage.aclose()

    assert e.value.__cause__ is None
    assert e.value.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(e.value)) + caplog.text


@pytest.mark.parametrize("url", [None, 6379, SECRET.encode(), ["redis://host"]])
def test_what_is_no_string_is_refused_by_its_type(url: object) -> None:
    with pytest.raises(ConfigurationError, match=f"not {type(url).__name__}"):
        RedisStorage.from_url(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {}),
        ("redis://host", {"host": "host"}),
        ("REDIS://host:1/2", {"host": "host", "port": 1, "db": 2}),
        ("redis://host/", {"host": "host"}),
        ("redis://host/3/", {"host": "host", "db": 3}),
        ("redis://host?db=4", {"host": "host", "db": 4}),
        ("redis://[::1]:1", {"host": "::1", "port": 1}),
        ("redis://:pw@host", {"password": "pw", "host": "host"}),
        ("redis://user:p@ss@host", {"username": "user", "password": "p@ss", "host": "host"}),
        ("redis://user:a:b@host", {"password": "a:b"}),
        ("redis://user:100%@host", {"password": "100%"}),
        ("redis://host?client_name=a%40b", {"client_name": "a@b"}),
        ("redis://host\n", {"host": "host"}),
        ("rediss://:pw@host:1/2", {"password": "pw", "host": "host", "port": 1, "db": 2}),
        ("rediss://host?ssl_cert_reqs=none", {"host": "host"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix://user:pw@/run/a@b.sock?db=1", {"path": "/run/a@b.sock", "username": "user", "password": "pw", "db": 1}),
        *(
            (f"redis://{quote(word, '')}:{quote(word, '')}@host", {"username": word, "password": word, "host": "host"})
            for word in ("a#b", "a/b", "a?b", "a@b", "a:b", "a[b]", "a%b", "a b", "é", "\u2100", "%23")
        ),
    ],
)
def test_a_valid_url_is_taken_as_the_driver_takes_it(url: str, expected: dict[str, object]) -> None:
    storage = RedisStorage.from_url(url)
    options = storage._client.connection_pool.connection_kwargs

    assert {name: options.get(name) for name in expected} == expected


def test_whatever_stands_in_a_password_it_is_refused_or_understood_as_it_was_meant() -> None:
    """Otherwise the driver takes a part of it for the host, the path or the database, and shows it in its errors."""
    random.seed(1)
    taken = 0
    for _ in range(500):
        password = "".join(random.choices("a1:/?#@[]%,=&;+ \\\t\n!'\"ü\x00*", k=random.randrange(1, 9)))
        for url, place in (
            ("redis://ada:{}@host:1/3", {"host": "host", "port": 1}),
            (
                "unix://ada:{}@/run/redis.sock?db=3",
                {"path": "/run/redis.sock"},
            ),
        ):
            try:
                storage = RedisStorage.from_url(url.format(password))
            except ConfigurationError:
                continue
            taken += 1
            options = storage._client.connection_pool.connection_kwargs
            expected = {"username": "ada", "db": 3, **place}
            assert {name: options.get(name) for name in expected} == expected, password
    assert taken > 100


@pytest.mark.parametrize("client", [f"redis://:{SECRET}@host", f"redis://:{SECRET}@host".encode()])
def test_a_url_in_the_place_of_a_client_is_refused_and_not_repeated(client: object) -> None:
    with pytest.raises(ConfigurationError, match=r"use RedisStorage\.from_url") as caught:
        RedisStorage(client)  # type: ignore[arg-type]

    assert SECRET not in str(caught.value)


class Odd:
    """Something whose text holds a secret."""

    def __repr__(self) -> str:
        return SECRET


@pytest.mark.parametrize("client", [None, Odd(), 5, Redis, {"password": SECRET}])
def test_what_is_no_client_is_refused_by_its_type(client: object) -> None:
    with pytest.raises(
        ConfigurationError, match=r"a client of redis\.asyncio, not a .*\." + type(client).__name__
    ) as e:
        RedisStorage(client)  # type: ignore[arg-type]

    assert SECRET not in str(e.value)


def test_a_client_that_blocks_the_loop_is_refused(shared_server: RedisServer) -> None:
    with (
        sync_redis.Redis(port=shared_server.port) as client,
        pytest.raises(ConfigurationError, match=r"a client of redis\.asyncio, not a redis\.client\.Redis"),
    ):
        RedisStorage(client)
