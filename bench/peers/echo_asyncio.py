"""The server of rows/echo.lua on asyncio: a task for each connection, with streams."""

import asyncio


async def serve(reader, writer):
    try:
        while True:
            writer.write(await reader.readexactly(64))
    except asyncio.IncompleteReadError:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
