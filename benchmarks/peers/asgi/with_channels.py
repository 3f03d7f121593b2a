"""Channels on Daphne, with channels-redis: a consumer a socket, a group for what all are told."""

from __future__ import annotations

import json

import uvloop

from .mitra import TOO_FAST, Beats, pong, verified
from .serving import Message, Receive, Send, answer, asked, body, valkey_at

uvloop.install()  # before Daphne makes the loop that it runs on

import django  # noqa: E402
from django.conf import settings  # noqa: E402

options = asked()
VALKEY = {
    "address": options.valkey_url,
    "socket_timeout": None,  # redis-py's default is as long as the layer's own wait for a message, and would break it
    "max_connections": 10_000,  # the layer takes one for everything that is under way, and fails where there is none
}
settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [VALKEY]}}},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402
from daphne.server import Server  # noqa: E402

NEVER_S = 10 * 86_400
EVERYBODY = "mitras"
beats = Beats(valkey_at(options.valkey_url))


class MitraConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        mitra = verified(self.scope["headers"], options.secret)
        if mitra is None:
            await self.close()
            return
        self.mitra = mitra
        await self.channel_layer.group_add(EVERYBODY, self.channel_name)
        await self.accept()
        await self.send(json.dumps(mitra.hello()))

    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        message = json.loads(text_data)
        if not self.mitra.beats():
            await self.send(json.dumps(TOO_FAST))
        elif message["type"] == "ping":
            beats.add(self.mitra.mitra_id)
            await self.send(json.dumps(pong()))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(EVERYBODY, self.channel_name)

    async def told(self, event: dict[str, str]) -> None:
        await self.send(event["text"])


async def publish(scope: Message, receive: Receive, send: Send) -> None:
    text = (await body(receive)).decode()
    await get_channel_layer().group_send(EVERYBODY, {"type": "told", "text": text})
    await answer(send, 204)


if __name__ == "__main__":
    Server(
        ProtocolTypeRouter({"http": publish, "websocket": MitraConsumer.as_asgi()}),
        endpoints=[f"tcp:{options.port}:interface=127.0.0.1:backlog=2048"],
        websocket_timeout=-1,
        ping_interval=NEVER_S,  # presence is the client's beat; ours sends no pings either
        verbosity=0,
        server_name="",
    ).run()
