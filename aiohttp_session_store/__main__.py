"""``python -m aiohttp_session_store`` is the command ``aiohttp-session-store``."""

from .cli import main

if __name__ == "__main__":
    main()
