"""The storages that keep sessions.  Each subpackage or module holds one, and none imports another's driver."""
