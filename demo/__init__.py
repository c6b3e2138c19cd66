"""A small application with login, flash messages, a live stream and logout, to be copied from."""
