"""What loading, saving and ending a session come to: decided here once, for every storage."""
