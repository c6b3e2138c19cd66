"""A load generator: wrk if it is installed, otherwise a plain client in a process of its own."""

import asyncio
import os
import re
import shutil
import sys
import time
from pathlib import Path

WRK = shutil.which("wrk")
LUA = """
local cookies = {%s}
local at = 0
request = function()
  at = at %% #cookies + 1
  return wrk.format("GET", nil, {["Cookie"] = cookies[at]})
end
"""


async def load(url: str, cookies: list[str], *, connections: int, seconds: int, directory: str) -> tuple[int, int]:
    """Request *url* as fast as it answers, with each cookie in turn; return the number of requests and of failures."""
    if WRK is None:
        command = [sys.executable, "-m", "benchmarks.load", url, str(connections), str(seconds), *cookies]
    else:
        command = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s", url]
        if cookies:
            script = Path(directory, "cookies.lua")
            script.write_text(LUA % ", ".join(f"[==[{cookie}]==]" for cookie in cookies))
            command[1:1] = ["-s", str(script)]
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        command = ["taskset", "-c", "1", *command]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return requests, int(bad[1]) if bad else 0


async def visit(host: str, port: int, request: bytes, until: float) -> tuple[int, int]:
    """Repeat one request on one connection; return the number of requests and of failures."""
    reader, writer = await asyncio.open_connection(host, port)
    count, bad = 0, 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        count += 1
        bad += not head.startswith(b"HTTP/1.1 2")
    writer.close()
    return count, bad


async def main(url: str, connections: int, seconds: float, cookies: list[str]) -> None:
    """Do what wrk does, and report it in wrk's format."""
    host, port, path = re.match(r"http://([^:/]+):(\d+)(/.*)", url).groups()  # type: ignore[union-attr]
    until = time.monotonic() + seconds
    heads = [f"Cookie: {cookie}\r\n" for cookie in cookies] or [""]
    requests = [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode() for head in heads]
    visits = [visit(host, int(port), requests[number % len(requests)], until) for number in range(connections)]
    done = await asyncio.gather(*visits)
    print(f"{sum(count for count, _ in done)} requests in {seconds}s")
    if bad := sum(bad for _, bad in done):
        print(f"Non-2xx or 3xx responses: {bad}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
