"""Requests of one turn of the event loop share a statement, and each of them gets an answer of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from aiohttp_session_store import StorageError, Stored
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer
from tests.servers.tcp_proxy import Fate, TcpProxy, tcp_proxy
from tests.storages.two_apps import close_while_it_is_used

EXPIRES_AT = 4_000_000_000
KEYS = [f"{number:064x}" for number in range(8)]
MISSING_KEY = "f" * 64


@pytest.fixture(params=["direct", "repeatable read", "PgBouncer"])
async def shared(request: pytest.FixtureRequest, shared_server: PostgresServer, schema: str) -> AsyncIterator["Logged"]:
    """Return a storage, and what it sends."""
    pooled = request.param == "PgBouncer"
    dsn: str = request.getfixturevalue("pooled_dsn") if pooled else shared_server.dsn
    options: dict[str, Any] = {"statement_cache_size": 0} if pooled else {}
    if request.param == "repeatable read":
        options["server_settings"] = {"default_transaction_isolation": "repeatable read"}
    logged = Logged()
    async with asyncpg.create_pool(dsn, min_size=0, max_size=10, init=logged.listen, **options) as pool:
        logged.storage = PostgresStorage(pool, schema=schema, timeout=20)
        await logged.storage.create_schema()
        logged.said.clear()
        yield logged
        await logged.storage.aclose()


class Logged:
    """A storage, and the statements about sessions that it has sent since the last look."""

    storage: PostgresStorage

    def __init__(self) -> None:
        self.said: list[str] = []

    async def listen(self, connection: Any) -> None:
        connection.add_query_logger(lambda record: self.said.append(record.query))

    def statements(self) -> list[str]:
        sent = [one for one in self.said if self.storage._statements.table in one]
        self.said.clear()
        return sent


async def filled(storage: PostgresStorage, keys: list[str] = KEYS) -> dict[str, bytes]:
    """Insert a record for each of *keys*, at once; return their versions."""
    versions = await asyncio.gather(*(storage.insert(key, b"old", EXPIRES_AT) for key in keys))
    assert all(versions)
    return {key: version or b"" for key, version in zip(keys, versions, strict=True)}


async def data_of(storage: PostgresStorage) -> dict[str, bytes]:
    return {key: stored.data for key, stored in (await storage.fetch_many([*KEYS, MISSING_KEY])).items()}


# --- how many statements


async def test_each_verb_of_a_turn_takes_one_statement(shared: Logged) -> None:
    storage, sql = shared.storage, shared.storage._statements
    versions = await filled(storage)
    assert shared.statements() == [sql.insert.many]
    await asyncio.gather(*(storage.fetch(key) for key in KEYS))
    assert shared.statements() == [sql.fetch.many]
    touched = asyncio.gather(*(storage.touch(key, EXPIRES_AT + 1, versions[key]) for key in KEYS[:4]))
    replaced = asyncio.gather(*(storage.replace(key, b"new", EXPIRES_AT, versions[key]) for key in KEYS[4:]))
    assert await touched == [True] * 4
    assert all(await replaced)
    assert sorted(shared.statements()) == sorted([sql.touch.many, sql.replace.many])
    removed = asyncio.gather(*(storage.delete(key) for key in KEYS[:4]))
    removed_at = asyncio.gather(
        *(storage.delete(key, version or b"") for key, version in zip(KEYS[4:], await replaced, strict=True))
    )
    assert await removed == await removed_at == [True] * 4
    assert sorted(shared.statements()) == sorted([sql.delete.many, sql.delete_version.many])
    assert await data_of(storage) == {}


async def test_a_request_that_is_alone_sends_its_own_statement_without_a_task(shared: Logged) -> None:
    storage, sql = shared.storage, shared.storage._statements
    tasks: list[str] = []

    def note(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        tasks.append(repr(work))
        return asyncio.Task(work, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(note)
    version = await storage.insert(KEYS[0], b"", EXPIRES_AT) or b""
    await storage.fetch(KEYS[0])
    await storage.touch(KEYS[0], EXPIRES_AT, version)
    newer = await storage.replace(KEYS[0], b"", EXPIRES_AT, version) or b""
    await storage.delete(KEYS[0], newer)
    await storage.delete(KEYS[0])
    asyncio.get_running_loop().set_task_factory(None)

    verbs = (sql.insert, sql.fetch, sql.touch, sql.replace, sql.delete_version, sql.delete)
    assert shared.statements() == [verb.one for verb in verbs]
    assert not [one for one in tasks if "Shared" in one]
    assert tasks, "asyncpg makes some"


async def test_the_driver_asks_the_server_about_no_type(shared: Logged) -> None:
    """Behind a pooler, that query is slow, and it leaves JIT turned off for whoever uses the connection next."""
    storage = shared.storage
    await (await storage._connections.pool()).expire_connections()
    shared.said.clear()
    for verb in VERBS.values():
        versions = await filled(storage)
        await asyncio.gather(*(verb(storage, key, versions[key]) for key in KEYS))
        await asyncio.gather(storage.fetch_many(KEYS), storage.versions(KEYS))
        assert [one async for one in storage.walk()]
        await asyncio.gather(*(storage.delete(key) for key in [*KEYS, *map(new, KEYS)]))

    assert storage._statements.replace.many in shared.said
    assert [one for one in shared.said if "pg_type" in one or "jit" in one] == []


async def test_no_more_than_32_records_share_a_statement(shared: Logged) -> None:
    storage, sql = shared.storage, shared.storage._statements
    keys = [f"{number:064x}" for number in range(70)]
    versions = await filled(storage, keys)
    found = await asyncio.gather(*(storage.fetch(key) for key in keys))

    assert found == [Stored(b"old", versions[key], EXPIRES_AT) for key in keys]
    assert shared.statements() == [sql.insert.many] * 3 + [sql.fetch.many] * 3


async def test_a_large_record_is_written_by_a_statement_of_its_own(shared: Logged) -> None:
    storage, sql = shared.storage, shared.storage._statements
    versions = await filled(storage)
    shared.statements()
    sizes = [10, 65_537, 10, 300_000, 10, 10, 10, 65_536]
    written = (
        storage.replace(key, bytes(size), EXPIRES_AT, versions[key]) for key, size in zip(KEYS, sizes, strict=True)
    )
    assert all(await asyncio.gather(*written))

    assert sorted(shared.statements()) == sorted([sql.replace.many, sql.replace.one, sql.replace.one])
    after = await data_of(storage)
    assert [len(after[key]) for key in KEYS] == sizes


# --- each gets an answer of its own


async def test_each_request_gets_its_own_record(shared: Logged) -> None:
    storage = shared.storage
    versions = await filled(storage)
    asked = [KEYS[3], MISSING_KEY, KEYS[1], KEYS[3], KEYS[0]]
    found = await asyncio.gather(*(storage.fetch(key) for key in asked))

    assert found == [None if key == MISSING_KEY else Stored(b"old", versions[key], EXPIRES_AT) for key in asked]


async def test_of_several_replacements_only_those_at_the_right_version_succeed(shared: Logged) -> None:
    storage = shared.storage
    versions = await filled(storage)
    calls = {
        "good": storage.replace(KEYS[0], b"new", EXPIRES_AT, versions[KEYS[0]]),
        "another version": storage.replace(KEYS[1], b"new", EXPIRES_AT, versions[KEYS[2]]),
        "missing": storage.replace(MISSING_KEY, b"new", EXPIRES_AT, versions[KEYS[2]]),
        "first": storage.replace(KEYS[3], b"first", EXPIRES_AT, versions[KEYS[3]]),
        "second": storage.replace(KEYS[3], b"second", EXPIRES_AT, versions[KEYS[3]]),
    }
    answers = dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))
    after = await storage.fetch_many(KEYS)

    assert after[KEYS[0]] == Stored(b"new", answers["good"] or b"", EXPIRES_AT)
    assert answers["another version"] is answers["missing"] is None
    assert after[KEYS[1]].data == b"old"
    winner = "first" if answers["first"] else "second"
    assert after[KEYS[3]] == Stored(winner.encode(), answers[winner] or b"", EXPIRES_AT)
    assert [answers["first"], answers["second"]].count(None) == 1


async def test_of_several_rewrites_only_those_at_the_right_version_succeed_and_the_expiry_stays(shared: Logged) -> None:
    storage = shared.storage
    versions = await filled(storage)
    shared.statements()
    calls = [storage.rewrite(KEYS[0], b"new", versions[KEYS[0]]), storage.rewrite(KEYS[1], b"new", versions[KEYS[2]])]
    written, refused = await asyncio.gather(*calls)
    after = await storage.fetch_many(KEYS)

    assert shared.statements()[:2] == [storage._statements.rewrite.many, storage._statements.rewrite.one]
    assert refused is None
    assert after[KEYS[0]] == Stored(b"new", written or b"", EXPIRES_AT)
    assert after[KEYS[1]].data == b"old"


async def test_of_several_insertions_only_those_of_new_keys_succeed(shared: Logged) -> None:
    storage = shared.storage
    await filled(storage, KEYS[:2])
    asked = [KEYS[0], KEYS[2], KEYS[3], KEYS[3], KEYS[1]]
    made = await asyncio.gather(*(storage.insert(key, b"new", EXPIRES_AT) for key in asked))
    after = await storage.fetch_many(KEYS)

    assert made[0] is made[4] is None
    assert after[KEYS[2]].version == made[1]
    assert [made[2], made[3]].count(None) == 1
    assert after[KEYS[3]].version in made[2:4]
    assert after[KEYS[0]].data == after[KEYS[1]].data == b"old"


async def test_of_several_touches_only_those_at_the_right_version_succeed_and_none_shortens(shared: Logged) -> None:
    storage = shared.storage
    versions = await filled(storage)
    asked = [
        (KEYS[0], EXPIRES_AT + 5, versions[KEYS[0]]),
        (KEYS[1], EXPIRES_AT + 5, b"another"),
        (KEYS[2], EXPIRES_AT - 5, versions[KEYS[2]]),
        (KEYS[3], EXPIRES_AT + 1, versions[KEYS[3]]),
        (KEYS[3], EXPIRES_AT + 9, versions[KEYS[3]]),
        (MISSING_KEY, EXPIRES_AT, b""),
    ]
    answers = await asyncio.gather(*(storage.touch(*one) for one in asked))
    after = await storage.fetch_many(KEYS)

    assert answers == [True, False, True, True, True, False]
    assert [after[key].expires_at - EXPIRES_AT for key in KEYS[:4]] == [5, 0, 0, 9]
    assert all(after[key].version == versions[key] for key in KEYS)


async def test_of_several_deletions_at_a_version_each_says_whether_a_record_is_left(shared: Logged) -> None:
    storage = shared.storage
    versions = await filled(storage)
    asked = [(KEYS[0], versions[KEYS[0]]), (KEYS[1], b"another"), (MISSING_KEY, b""), (KEYS[0], versions[KEYS[0]])]
    answers = await asyncio.gather(*(storage.delete(*one) for one in asked), storage.delete(KEYS[2]))

    assert answers == [True, False, True, True, True]
    assert set(await data_of(storage)) == set(KEYS) - {KEYS[0], KEYS[2]}


# --- errors and cancellation


async def test_an_error_is_that_of_one_request(shared: Logged, pool: asyncpg.Pool) -> None:
    """Of the table, which refuses one of the records, or of the driver, which refuses a number."""
    storage = shared.storage
    await pool.execute(f"ALTER TABLE {storage._statements.table} ADD CHECK (data <> 'bad')")
    data = [b"good", b"bad", b"good", b"good"]
    expiry = [EXPIRES_AT, EXPIRES_AT, 2**70, EXPIRES_AT]
    answers = await asyncio.gather(*map(storage.insert, KEYS[:4], data, expiry), return_exceptions=True)

    assert await data_of(storage) == {KEYS[0]: b"good", KEYS[3]: b"good"}
    for refused in (answers[1], answers[2]):
        assert isinstance(refused, StorageError)
        assert not refused.maybe_stored
    assert "CheckViolation" in str(answers[1])


async def test_without_a_connection_each_request_gets_an_error_of_its_own(
    storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    hasty = PostgresStorage(pool, schema=schema, timeout=0.2)
    taken = [await pool.acquire() for _ in range(pool.get_max_size())]
    errors = await asyncio.gather(*(hasty.insert(key, b"", EXPIRES_AT) for key in KEYS), return_exceptions=True)
    for one in taken:
        await pool.release(one)

    assert len({id(error) for error in errors}) == len(KEYS)
    for error in errors:
        assert isinstance(error, StorageError)
        assert "nothing was stored" in str(error)
        assert not error.maybe_stored
    assert await data_of(storage) == {}


@pytest.mark.parametrize("gone", [[0], [1], [7], [0, 1, 2], list(range(7)), list(range(8))])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_cancelled_request_takes_nothing_along(storage: PostgresStorage, gone: list[int], turns: int) -> None:
    """Cancelled before its turn is over, when the statement is about to be sent, or was sent."""
    asking = [asyncio.ensure_future(storage.insert(key, b"new", EXPIRES_AT)) for key in KEYS]
    for _ in range(turns):
        await asyncio.sleep(0)
    for number in gone:
        asking[number].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    await storage._shared.finish()
    found = await storage.fetch_many(KEYS)

    for number, (key, answer) in enumerate(zip(KEYS, answers, strict=True)):
        if number in gone:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert found[key].version == answer
    if turns < 2:
        assert len(found) == len(KEYS) - len(gone), "what was cancelled in time is not sent"


async def test_a_storage_is_closed_when_what_was_sent_is_done(shared_server: PostgresServer, schema: str) -> None:
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema)
    await storage.create_schema()
    asking = [asyncio.ensure_future(storage.insert(key, b"new", EXPIRES_AT)) for key in KEYS]
    for _ in range(3):
        await asyncio.sleep(0)
    for one in asking:
        one.cancel()
    await storage.aclose()

    assert set(await data_of(storage)) == set(KEYS)
    await storage.aclose()


async def test_an_app_closes_a_storage_while_another_app_goes_on_using_it(
    shared_server: PostgresServer, schema: str
) -> None:
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, timeout=60)
    await storage.create_schema()

    await close_while_it_is_used(
        storage, lambda number: storage.fetch(f"{number:064x}"), lambda: storage._shared._running
    )


def test_a_request_of_a_loop_that_has_ended_disturbs_none_of_a_later_loop(
    shared_server: PostgresServer, schema: str
) -> None:
    """Its coroutine is closed whenever the garbage collector finds it, such as in the middle of a turn."""
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, timeout=60)
    fetching = storage.fetch(KEYS[0])

    async def begin() -> None:
        asyncio.ensure_future(fetching)  # noqa: RUF006  it is found below

    async def ask() -> None:
        await storage.create_schema()
        asking = asyncio.gather(*(storage.fetch(key) for key in KEYS))
        asyncio.get_running_loop().call_soon(fetching.close)
        async with asyncio.timeout(30):
            assert await asking == [None] * len(KEYS)
        await storage.aclose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())  # now the request waits for its turn to end
    (left,) = asyncio.all_tasks(loop)
    asyncio.run(ask())
    loop.run_until_complete(asyncio.wait([left]))
    loop.close()
    assert isinstance(left.exception(), RuntimeError), "its coroutine was closed"


def test_a_storage_works_in_one_event_loop_after_another(shared_server: PostgresServer, schema: str) -> None:
    """Also if the first one ended while requests were waiting for their turn."""
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema)

    async def ask() -> list["asyncio.Future[Stored | None]"]:
        asking: list[asyncio.Future[Stored | None]] = [asyncio.ensure_future(storage.fetch(key)) for key in KEYS]
        await asyncio.sleep(0)
        return asking

    async def ask_until_answered() -> None:
        await storage.create_schema()
        assert await asyncio.gather(*await ask()) == [None] * len(KEYS)
        await storage.aclose()

    assert all(one.cancelled() for one in asyncio.run(ask()))
    asyncio.run(ask_until_answered())


# --- answers that are lost


@pytest.fixture
async def proxy(shared_server: PostgresServer) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(shared_server.dsn) as proxy:
        yield proxy


@pytest.fixture
async def far(
    shared_server: PostgresServer, storage: PostgresStorage, proxy: TcpProxy, schema: str
) -> AsyncIterator[PostgresStorage]:
    """A storage on the same table as ``storage``, behind the proxy, whose connections know all shared statements."""
    far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=1, timeout=20)
    for verb in VERBS.values():
        versions = await filled(storage)
        await asyncio.gather(*(verb(far, key, versions[key]) for key in KEYS[:2]))
        await asyncio.gather(*(storage.delete(key) for key in [*KEYS, *map(new, KEYS)]))
    yield far
    await far.aclose()


def new(key: str) -> str:
    return f"e{key[1:]}"


Verb = Callable[[PostgresStorage, str, bytes], Awaitable[Any]]
VERBS: dict[str, Verb] = {
    "insert": lambda storage, key, version: storage.insert(new(key), b"new", EXPIRES_AT),
    "replace": lambda storage, key, version: storage.replace(key, b"new", EXPIRES_AT, version),
    "rewrite": lambda storage, key, version: storage.rewrite(key, b"new", version),
    "touch": lambda storage, key, version: storage.touch(key, EXPIRES_AT + 1, version),
    "delete": lambda storage, key, version: storage.delete(key),
    "delete at a version": lambda storage, key, version: storage.delete(key, version),
    "fetch": lambda storage, key, version: storage.fetch(key),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("arrived", [True, False])
async def test_if_the_answer_is_lost_each_request_is_done_once(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy, verb: str, arrived: bool
) -> None:
    versions = await filled(storage)
    if arrived:
        proxy.doom(Fate.LOSE_ANSWERS)
    else:
        proxy.hold()
    asking = asyncio.gather(*(VERBS[verb](far, key, versions[key]) for key in KEYS))
    await (proxy.lost if arrived else proxy.held).wait()
    proxy.cut()
    answers = await asking
    found = await storage.fetch_many([*KEYS, *map(new, KEYS)])

    for key, answer in zip(KEYS, answers, strict=True):
        stored = found.get(key)
        if verb == "insert":
            assert found[new(key)] == Stored(b"new", answer, EXPIRES_AT)
        elif verb in ("replace", "rewrite"):
            assert stored == Stored(b"new", answer, EXPIRES_AT)
        elif verb == "touch":
            assert answer is True
            assert stored == Stored(b"old", versions[key], EXPIRES_AT + 1)
        elif verb == "fetch":
            assert answer == stored == Stored(b"old", versions[key], EXPIRES_AT)
        else:
            assert answer is True
            assert stored is None


async def test_if_the_answer_is_lost_and_others_have_written_since_each_request_learns_the_truth(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy
) -> None:
    versions = await filled(storage)
    proxy.doom(Fate.LOSE_ANSWERS)
    asking = asyncio.gather(*(far.replace(key, b"ours", EXPIRES_AT, versions[key]) for key in KEYS))
    await proxy.lost.wait()
    ours = {key: stored.version for key, stored in (await storage.fetch_many(KEYS)).items()}
    assert await storage.replace(KEYS[0], b"theirs", EXPIRES_AT, ours[KEYS[0]])
    last = ours[KEYS[1]]
    for _ in range(9):
        last = await storage.replace(KEYS[1], b"theirs", EXPIRES_AT, last) or b""
    await storage.delete(KEYS[2])
    proxy.cut()
    with pytest.raises(StorageError, match="other requests have written since") as caught:
        await asking
    assert caught.value.maybe_stored
    assert await data_of(storage) == {**dict.fromkeys(KEYS[3:], b"ours"), KEYS[0]: b"theirs", KEYS[1]: b"theirs"}


@pytest.mark.parametrize("verb", VERBS)
async def test_if_no_answer_comes_at_all_each_error_says_whether_something_may_have_been_stored(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy, verb: str
) -> None:
    versions = await filled(storage)
    proxy.doom(Fate.LOSE_ANSWERS)
    proxy.refuses = True
    asking = asyncio.gather(*(VERBS[verb](far, key, versions[key]) for key in KEYS), return_exceptions=True)
    await proxy.lost.wait()
    proxy.cut()
    errors = await asking

    assert len({id(error) for error in errors}) == len(KEYS)
    for error in errors:
        assert isinstance(error, StorageError)
        assert error.__cause__ is not None
        assert error.maybe_stored == (verb != "fetch")


# --- rows that others are writing


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("insert", "fetch")])
async def test_whoever_asked_for_a_row_that_is_locked_waits_alone(pool: asyncpg.Pool, schema: str, verb: str) -> None:
    storage = PostgresStorage(pool, schema=schema, timeout=120)
    await storage.create_schema()
    versions = await filled(storage)
    table = storage._statements.table
    async with pool.acquire() as other, other.transaction():
        await other.execute(f"SELECT FROM {table} WHERE key = $1 FOR UPDATE", KEYS[3])
        asking = {key: asyncio.ensure_future(VERBS[verb](storage, key, versions[key])) for key in KEYS}
        _, slow = await asyncio.wait([task for key, task in asking.items() if key != KEYS[3]], timeout=30)
        assert not slow
        async with asyncio.timeout(30):
            while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        assert not asking[KEYS[3]].done()
    answers = await asyncio.gather(*asking.values())
    found = await storage.fetch_many(KEYS)

    assert all(answers)
    for key in KEYS:
        stored = found.get(key)
        assert (stored is None) == verb.startswith("delete")
        assert stored is None or stored != Stored(b"old", versions[key], EXPIRES_AT)


@pytest.mark.parametrize(
    "pooled",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=lambda pooled: "PgBouncer" if pooled else "direct",
)
async def test_processes_that_write_the_same_rows_in_any_order_never_wait_for_each_other(
    request: pytest.FixtureRequest,
    storage: PostgresStorage,
    pool: asyncpg.Pool,
    shared_server: PostgresServer,
    schema: str,
    pooled: bool,
) -> None:
    """A deadlock would cost its victims a second, and the server would say so in its log."""
    dsn: str = request.getfixturevalue("pooled_dsn") if pooled else shared_server.dsn
    table = storage._statements.table
    # Statements take long enough to meet, and the server goes by the index, as it does if there are many sessions.
    await pool.execute(
        f"CREATE FUNCTION {schema}.rest() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.002); RETURN coalesce(NEW, OLD); END';"
        f" INSERT INTO {table} SELECT 'session ' || number, '', '', 0 FROM generate_series(1, 5000) AS number;"
        f" CREATE TRIGGER rest BEFORE INSERT OR UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION {schema}.rest(); ANALYZE {table}"
    )
    before = shared_server.log.read_text().count("deadlock detected")
    command = [sys.executable, "-m", "tests.storages.postgres.batches", dsn, schema]
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(*command, str(seed), stdin=pipe, stdout=pipe) for seed in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    said = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    counts = [[int(word) for word in output.split()] for output, _ in said]

    assert [process.returncode for process in processes] == [0] * 3
    assert all(written for written, _ in counts), counts
    assert sum(conflicts for _, conflicts in counts) > 0, "they have not met"
    assert shared_server.log.read_text().count("deadlock detected") == before
