"""The promises that hold between processes, tested with four real workers on one storage and a real client."""

import asyncio
import random
from ast import literal_eval
from pathlib import Path

import pytest

from tests.processes.conftest import Workers


@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=pytest.mark.long)])
async def test_parallel_writes_to_four_workers_lose_no_key(workers: Workers, rounds: int) -> None:
    random.seed(1)
    for round_ in range(rounds):
        cookie = await workers.login()
        keys = {f"{round_}.{number}" for number in range(20)}

        await asyncio.gather(
            *(workers.get(f"/write?key={key}&pause={random.uniform(0, 0.01)}", cookie) for key in keys)
        )

        assert set(await workers.show(cookie)) == keys | {"user"}
    assert len(workers.met) == 4


@pytest.mark.parametrize("rounds", [40, pytest.param(200, marks=pytest.mark.long)])
async def test_slow_writers_bring_no_session_back(workers: Workers, rounds: int) -> None:
    random.seed(2)
    for round_ in range(rounds):
        cookie = await workers.login()
        pauses = [random.uniform(0, 0.02) for _ in range(4)]
        writers = [asyncio.ensure_future(workers.get(f"/write?key={round_}&pause={pause}", cookie)) for pause in pauses]
        await asyncio.sleep(random.uniform(0, 0.01))

        await workers.get("/logout", cookie)
        answers = await asyncio.gather(*writers)

        assert await workers.show(cookie) == {}
        assert [answer.cookies for answer in answers if answer.cookies] == []
    assert len(workers.met) == 4


async def test_a_counter_under_the_exclusive_lock_is_exact(workers: Workers) -> None:
    cookie = await workers.login()

    await asyncio.gather(*(workers.get("/count", cookie) for _ in range(200)))

    assert (await workers.show(cookie))["count"] == 200
    assert len(workers.met) == 4


async def test_parallel_changes_inside_values_are_all_kept(workers: Workers) -> None:
    random.seed(3)
    numbers = range(1, 21)
    for _ in range(5):
        cookie = await workers.login()
        await workers.get("/fill?most=20", cookie)

        await asyncio.gather(
            *(workers.get(f"/append?own={number}&pause={random.uniform(0, 0.01)}", cookie) for number in numbers)
        )

        values = await workers.ask("/values", cookie)
        shown = {key: literal_eval(value) for key, value in values.items() if key != "user"}
        assert sorted(shown["cart"]) == sorted(shown["items"]) == list(numbers)
        assert shown["tags"] == set(numbers)
        assert shown["prefs"] == {"ui": {str(number): True for number in numbers}}
        assert shown["rows"] == [{"id": number, "qty": number} for number in numbers]


async def test_200_increments_add_up_exactly(workers: Workers) -> None:
    cookie = await workers.login()

    await asyncio.gather(*(workers.get("/increment", cookie) for _ in range(200)))

    shown = await workers.ask("/values", cookie)
    assert (shown["n"], shown["amount"]) == ("200", "20.00")
    assert len(workers.met) == 4


@pytest.mark.parametrize("place", ["files"], indirect=True)
async def test_workers_create_one_secret_and_leave_no_stray_files(workers: Workers) -> None:
    cookies = [await workers.login() for _ in range(20)]

    for cookie in cookies:
        assert await workers.show(cookie) == {"user": "ada"}
    directory = Path(workers.place)
    names = sorted(path.name for path in directory.iterdir() if len(path.name) > 2)
    assert names == [".gitignore", "locks", "secret.key"]
    assert list(directory.glob("*/.*")) == []
