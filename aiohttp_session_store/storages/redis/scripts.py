"""What has to happen in one step on the server: a script is one.

Each works on one key, so that it runs on a cluster, and can be sent twice: a driver that lost the answer asks again.
That is why the one who writes makes up the version, and finds it there the second time.
"""

import hashlib


class Script:
    """The text of a script and the digest that the server knows it by."""

    def __init__(self, text: str) -> None:
        """Keep *text*, which takes one key."""
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_WRITE = """
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2], 'expires_at', ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
"""

#: New version, data, expiry, when it may be reclaimed (milliseconds).
INSERT = Script(f"""
local version = redis.call('HGET', KEYS[1], 'version')
if version then return version == ARGV[1] and 1 or 0 end
{_WRITE}""")

#: The same, and the version that it has to stand at.
REPLACE = Script(f"""
local version = redis.call('HGET', KEYS[1], 'version')
if version == ARGV[1] then return 1 end
if version ~= ARGV[5] then return 0 end
{_WRITE}""")

#: Version, expiry, when it may be reclaimed.
TOUCH = Script("""
local stored = redis.call('HMGET', KEYS[1], 'version', 'expires_at')
if stored[1] ~= ARGV[1] then return 0 end
if tonumber(stored[2]) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'expires_at', ARGV[2])
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
