"""Lua scripts for the changes that must happen in one step on the server.

Each script but one declares one key, so that it runs on a cluster.  Each script may also be sent again after its answer
was lost: a second run changes nothing that the first run has changed already, and its answer says what became of the
first.
"""

import hashlib


class Script:
    """The text of a script, and the digest by which the server knows it."""

    def __init__(self, text: str, *, stores: bool = True) -> None:
        """Keep *text*, a script that takes one key.

        Args:
            text: The script.
            stores: Whether the script changes a record, so that the caller has to know if its answer was lost.
        """
        self.text: str = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.stores: bool = stores


# A value is the version in 8 bytes, the expiry in 16 digits, and the data. So reading is a plain GET, which costs the
# client a third less than the fields of a hash.

#: Creates or replaces a record, and remembers its last 16 versions for some seconds under a key of their own, newest
#: first. Each one replaced the next one: if something was written that the script did not remember, it begins anew. So
#: an older version in the list proves that a newer one, which is not there, was never written. The server need not let
#: the script use this key. See ``docs/decisions/0013-writes-that-are-sent-again.md``.
#: Arguments: the new value; the Unix time in milliseconds at which it may be reclaimed; the version at which the record
#: has to stand, or '' if it must not exist; the prefix of the key for the last versions; how many milliseconds they are
#: remembered.
#: Answer: 1 if the value was written, now or when the script was sent before; 0 if not; 2 if it was not written now,
#: and nobody knows about before.
WRITE = Script("""
local version = string.sub(ARGV[1], 1, 8)
local standing = redis.call('GETRANGE', KEYS[1], 0, 7)
if standing == version then return 1 end
local name = ARGV[4] .. '{' .. KEYS[1] .. '}'
local recent = redis.pcall('GET', name)
if type(recent) ~= 'string' then recent = '' end
if string.find(recent, version, 1, true) then return 1 end
local base = ARGV[3] ~= '' and ARGV[3] or string.rep('\\0', 8)
if standing == ARGV[3] then
    redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
    if string.sub(recent, 1, 8) ~= base then recent = base end
    redis.pcall('SET', name, version .. string.sub(recent, 1, 120), 'PX', ARGV[5])
    return 1
end
if standing == '' or string.find(recent, base, 1, true) then return 0 end
return 2
""")

#: Replaces the data of a record and lets its expiry stand, also the server's own; otherwise as WRITE.
#: Arguments: the new version and data; the version at which the record has to stand; the prefix of the key for the last
#: versions; how many milliseconds they are remembered.
REWRITE = Script("""
local version = string.sub(ARGV[1], 1, 8)
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
local standing = string.sub(head, 1, 8)
if standing == version then return 1 end
local name = ARGV[3] .. '{' .. KEYS[1] .. '}'
local recent = redis.pcall('GET', name)
if type(recent) ~= 'string' then recent = '' end
if string.find(recent, version, 1, true) then return 1 end
if standing == ARGV[2] then
    redis.call('SET', KEYS[1], version .. string.sub(head, 9) .. string.sub(ARGV[1], 9), 'KEEPTTL')
    if string.sub(recent, 1, 8) ~= standing then recent = standing end
    redis.pcall('SET', name, version .. string.sub(recent, 1, 120), 'PX', ARGV[4])
    return 1
end
if standing == '' or string.find(recent, ARGV[2], 1, true) then return 0 end
return 2
""")

#: Arguments: the version; the new expiry in 16 digits; the Unix time in milliseconds at which it may be reclaimed.
#: PEXPIREAT comes first: a server that is full refuses a script at SETRANGE, unless the script has changed something
#: already.
TOUCH = Script("""
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if string.sub(head, 1, 8) ~= ARGV[1] then return 0 end
if tonumber(string.sub(head, 9)) < tonumber(ARGV[2]) then
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
    redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
end
return 1
""")

#: Argument: the version at which the record has to stand. A record that is gone already counts as removed.
#: A server that is full runs it: it needs no space.
DELETE = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version == '' then return 1 end
if version ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

#: The only script with several keys, so it is not for a cluster. Answer: for each key one byte that says whether it
#: exists, and its version or eight other bytes. One string is parsed much faster than many. A value that is not ours
#: counts as a record that cannot be read.
VERSIONS = Script(
    """
local found = {}
for i, key in ipairs(KEYS) do
    local version = redis.pcall('GETRANGE', key, 0, 7)
    if type(version) ~= 'string' or (version ~= '' and #version < 8) then version = '--------' end
    found[i] = version == '' and '000000000' or '1' .. version
end
return table.concat(found)
""",
    stores=False,
)

#: Arguments: the holder's token; milliseconds. To take the lock again with the same token succeeds.
TAKE = Script(
    """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""",
    stores=False,
)

#: Arguments: the holder's token; milliseconds. A lock that was lost is not taken again, because somebody else may have
#: held it meanwhile.
RENEW = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""",
    stores=False,
)

#: Argument: the holder's token.
RELEASE = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
    stores=False,
)

#: Enters a key into the sorted set of an owner, scored by when its entry ends, and removes entries that ended long ago.
#: Arguments: the key; the Unix time in seconds at which the entry ends; how many seconds it is kept after that.
LINK = Script("""
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not before or tonumber(before) < tonumber(ARGV[2]) then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.floor(tonumber(last[2])) + ARGV[3])
return 1
""")

#: Argument: the key.
UNLINK = Script("return redis.call('ZREM', KEYS[1], ARGV[1])")

#: Answer: the keys.
LINKED = Script("return redis.call('ZRANGE', KEYS[1], 0, -1)", stores=False)
