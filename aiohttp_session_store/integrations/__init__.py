"""Ready-made code for other libraries.  Each module needs the library whose name it has.

:mod:`.aiohttp_security` has an identity policy.  :mod:`.prometheus` and :mod:`.opentelemetry` have observers that make
metrics.
"""
