"""Where sessions are kept; each module holds one storage, and none imports another's driver."""
