"""Ready-made code for other aiohttp libraries.  Each module needs the library whose name it has.

:mod:`.aiohttp_security` has an identity policy.
"""
