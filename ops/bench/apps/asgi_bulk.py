"""Large bodies: /down?BYTES sends so many, in pieces of 64 KiB; /up reads one and says how many bytes it had."""

from asgi_hello import application as hello

PIECE = bytes(65536)


async def application(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/down":
        await down(int(scope["query_string"]), send)
    elif scope["type"] == "http" and scope["path"] == "/up":
        said = str(await received(receive)).encode()
        await start(send, len(said))
        await send({"type": "http.response.body", "body": said})
    else:
        await hello(scope, receive, send)


async def start(send, size):
    headers = [(b"content-type", b"application/x-bytes"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def down(size, send):
    await start(send, size)
    while size > len(PIECE):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        size -= len(PIECE)
    await send({"type": "http.response.body", "body": PIECE[:size]})


async def received(receive):
    count = 0
    while True:
        message = await receive()
        count += len(message.get("body", b""))
        if not message.get("more_body"):
            return count
