"""The measured apps without the extra ``orjson``: ``python -m benchmarks.without_orjson CASE PORT DIRECTORY``."""

import sys

sys.modules["orjson"] = None  # type: ignore[assignment]  # what makes an import fail

from .apps import main  # noqa: E402  the library looks for orjson when it is imported

if __name__ == "__main__":
    main()
