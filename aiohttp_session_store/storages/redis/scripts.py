"""What has to happen in one step on the server: a script is one.

Each works on one key, so that it runs on a cluster, and can be sent twice: a driver that lost the answer asks again.
That is why the one who writes makes up the version, and finds it there the second time.
"""

import hashlib


class Script:
    """The text of a script and the digest that the server knows it by."""

    def __init__(self, text: str) -> None:
        """Keep *text*, which takes one key."""
        self.text: str = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# A value is the version in 8 bytes, the expiry in 16 digits, and the data: to read it is a plain GET, which costs the
# client a third less than the fields of a hash.

#: The new value, when it may be reclaimed (milliseconds).
INSERT = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= '' then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
""")

#: The same, and the version that it has to stand at.
REPLACE = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= ARGV[3] then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
""")

#: Version, expiry in 16 digits, when it may be reclaimed.
TOUCH = Script("""
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if string.sub(head, 1, 8) ~= ARGV[1] then return 0 end
if tonumber(string.sub(head, 9)) < tonumber(ARGV[2]) then
    redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
end
return 1
""")

#: Token, milliseconds. Taking what one has already is taking it.
TAKE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

#: Token, milliseconds. What has been lost is not taken again: somebody else may have had it meanwhile.
RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

#: Token.
RELEASE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")
