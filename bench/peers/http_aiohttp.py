"""aiohttp. usage: http_aiohttp.py small URL   ns per request, 20 at once
                   http_aiohttp.py body URL    ns for 100 MB as bytes"""

import asyncio
import sys

import aiohttp
import bench

URL = sys.argv[2]
AT_ONCE = 20


async def small(n):
    left = n

    async def client(session):
        nonlocal left
        while left > 0:
            left -= 1
            async with session.get(URL + "/small") as response:
                assert await response.read() == b"hello"

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(AT_ONCE)))


async def big(n):
    async with aiohttp.ClientSession() as session:
        for _ in range(n):
            async with session.get(URL + "/big") as response:
                assert len(await response.read()) == 100 << 20


if sys.argv[1] == "small":
    bench.ns(lambda n: asyncio.run(small(n)))
else:
    bench.ns(lambda n: asyncio.run(big(n)), 1)
