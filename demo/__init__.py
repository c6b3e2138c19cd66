"""A small application to copy from: login, remember me, flash messages, a live stream, devices, password and logout."""
