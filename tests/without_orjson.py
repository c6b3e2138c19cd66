"""A pytest plugin that hides orjson: ``PYTHONPATH=tests python -m pytest -p without_orjson``."""

import sys

sys.modules["orjson"] = None  # type: ignore[assignment]  # what makes an import fail
