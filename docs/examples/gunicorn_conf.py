"""Settings for gunicorn_app.py; ``python -m gunicorn --help`` explains each."""

bind = "127.0.0.1:8080"
workers = 3
worker_class = "aiohttp.GunicornWebWorker"

# Seconds that requests under way get when a worker is told to stop; end long streams on app.on_shutdown.
graceful_timeout = 20

# Each worker makes its own app.  With True, what the module makes at import is forked: files bear that, clients of
# servers do not; and with `user = "www-data"` as well, the directory would belong to root.
preload_app = False
