"""A small application to copy from, with login, flash messages, a live stream, a list of devices and logout."""
