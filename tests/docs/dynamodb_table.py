"""A fake table with the conditional writes of DynamoDB, for the storage in docs/writing-a-storage.md.

It knows only the expressions that this storage uses, and answers as aioboto3's Table resource does.  A call suspends
before and after its work, as over a network; the work itself is atomic, as it is in DynamoDB.
"""

import asyncio
import re
from typing import Any


class BotoCoreError(Exception):
    """Raised when the service cannot be reached."""


class ClientError(Exception):
    """Raised when the service refuses a call."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__(response["Error"]["Code"])
        self.response = response


class Table:
    """The items by key."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.away = False

    async def get_item(self, *, Key: dict[str, str], ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803
        assert ConsistentRead, "an eventually consistent read may be stale"
        await self.travel()
        item = self.items.get(Key["key"])
        answer = {} if item is None else {"Item": dict(item)}
        await self.travel()
        return answer

    async def put_item(self, *, Item: dict[str, Any], **condition: Any) -> None:  # noqa: N803
        await self.travel()
        self.check(self.items.get(Item["key"]), condition)
        self.items[Item["key"]] = Item
        await self.travel()

    async def update_item(self, *, Key: dict[str, str], UpdateExpression: str, **condition: Any) -> None:  # noqa: N803
        await self.travel()
        self.check(self.items.get(Key["key"]), condition)
        given = condition["ExpressionAttributeValues"]
        changed = {name: given[value] for name, value in re.findall(r"(\w+) = (:\w+)", UpdateExpression)}
        self.items[Key["key"]] = {**self.items[Key["key"]], **changed}
        await self.travel()

    async def delete_item(self, *, Key: dict[str, str], **condition: Any) -> None:  # noqa: N803
        await self.travel()
        if condition:
            self.check(self.items.get(Key["key"]), condition)
        self.items.pop(Key["key"], None)
        await self.travel()

    async def travel(self) -> None:
        """Suspend, as a call does on the way to the service and back."""
        await asyncio.sleep(0)
        if self.away:
            raise BotoCoreError("the service cannot be reached")

    def check(self, item: dict[str, Any] | None, condition: dict[str, Any]) -> None:
        """Raise ClientError if the condition of a write does not hold."""
        given = condition.get("ExpressionAttributeValues", {})
        *allowed, required = condition["ConditionExpression"].split(" OR ")
        if any(self.holds(item, part, given) for part in allowed):
            return
        if not all(self.holds(item, part, given) for part in required.split(" AND ")):
            raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}})

    def holds(self, item: dict[str, Any] | None, part: str, given: dict[str, Any]) -> bool:
        """Return whether one part of a condition holds."""
        absent = re.fullmatch(r"attribute_not_exists\((\w+)\)", part)
        if absent:
            return item is None or absent[1] not in item
        name, operator, value = part.split()
        found = None if item is None else item.get(name)
        return found is not None and bool({"=": found == given[value], "<": found < given[value]}[operator])
