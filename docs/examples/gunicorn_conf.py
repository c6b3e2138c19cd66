"""Settings for gunicorn_app.py; ``python -m gunicorn --help`` explains each."""

bind = "127.0.0.1:8080"
workers = 3
worker_class = "aiohttp.GunicornWebWorker"

# Seconds that running requests get when a worker is told to stop.  End long streams in app.on_shutdown.
graceful_timeout = 20

# Each worker makes its own app.  With True, what the module makes at import is forked.  FileSystemStorage survives
# that, but clients of servers do not.  With True and `user = "www-data"`, the directory would belong to root.
preload_app = False
