"""Lua scripts for the changes that must happen in one step on the server.

Each script works on one key, so that it runs on a cluster.  Each script can also be sent twice, because a driver that
lost the answer sends the command again.  That is why the client chooses the new version: the second time, the script
finds this version in place and reports success.
"""

import hashlib


class Script:
    """The text of a script, and the digest by which the server knows it."""

    def __init__(self, text: str) -> None:
        """Keep *text*, a script that takes one key."""
        self.text: str = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# A value is the version in 8 bytes, the expiry in 16 digits, and the data. So reading is a plain GET, which costs the
# client a third less than the fields of a hash.

#: Arguments: the new value; the Unix time in milliseconds at which it may be reclaimed.
INSERT = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= '' then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
""")

#: Arguments: those of INSERT, and the version at which the record has to stand.
REPLACE = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= ARGV[3] then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
""")

#: Arguments: the version; the new expiry in 16 digits; the Unix time in milliseconds at which it may be reclaimed.
TOUCH = Script("""
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if string.sub(head, 1, 8) ~= ARGV[1] then return 0 end
if tonumber(string.sub(head, 9)) < tonumber(ARGV[2]) then
    redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
end
return 1
""")

#: Argument: the version at which the record has to stand. A record that is gone already counts as removed.
DELETE = Script("""
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version == '' then return 1 end
if version ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

#: Arguments: the holder's token; milliseconds. To take the lock again with the same token succeeds.
TAKE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

#: Arguments: the holder's token; milliseconds. A lock that was lost is not taken again, because somebody else may have
#: held it meanwhile.
RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

#: Argument: the holder's token.
RELEASE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")
