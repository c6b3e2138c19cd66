"""What a handler holds: pure, no I/O, no clock, no event loop."""
