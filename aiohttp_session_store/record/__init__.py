"""The stored form of a session, as pure code: no I/O, no clock, no event loop."""
