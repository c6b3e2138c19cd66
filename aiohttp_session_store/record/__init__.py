"""The stored form of a session: pure, no I/O, no clock, no event loop."""
