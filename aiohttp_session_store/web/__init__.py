"""The connection to aiohttp: the middleware, the cookie, and the headers of requests and responses."""
