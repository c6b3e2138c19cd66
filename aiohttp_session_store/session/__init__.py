"""The session that a handler holds, as pure code: no I/O, no clock, no event loop."""
