"""nchan, the publish/subscribe module of nginx: fan-out only, it knows neither tokens nor beats."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.peers.programs import READY_S, publish, running, said

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))

# The descriptors are the limit: of its connections nginx keeps a sixteenth free by ending some that stand idle.
CONFIGURATION = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 32768; use epoll; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 256m;
    upstream valkey {{ nchan_redis_server {valkey_url}; }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /ws/mitra {{
            nchan_subscriber websocket;
            nchan_channel_id all;
            nchan_subscriber_first_message newest;
            nchan_redis_pass valkey;
        }}
        location = /publish {{
            nchan_publisher;
            nchan_channel_id all;
            nchan_message_buffer_length 1;
            nchan_message_timeout 10s;
            nchan_redis_pass valkey;
        }}
    }}
}}
"""


@asynccontextmanager
async def serve(port: int, valkey_url: str, secret: str, core: int | None) -> AsyncIterator[list[int]]:
    """One process, as the others are; what is published goes through Valkey."""
    with tempfile.TemporaryDirectory(prefix="hadir-nchan-") as folder:
        text = CONFIGURATION.format(module=MODULE, folder=folder, port=port, valkey_url=valkey_url.removesuffix("/0"))
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(text)
        async with running([_nginx() or "nginx", "-p", folder, "-c", str(configuration)], port, core) as pid:
            await _connected(port)
            yield [pid]


async def _connected(port: int) -> None:
    """It listens before it has Valkey, and refuses everybody until then."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                return await publish(port, b"{}")
            except ConnectionError:
                await asyncio.sleep(0.02)


def _nginx() -> str | None:
    return shutil.which("nginx", path=SEARCHED)


def versions() -> str:
    nginx = said(_nginx() or "nginx", "-v").rpartition("/")[2]
    module = re.search(r"^Version: (?:\d+:)?([\d.]+)", said("dpkg", "-s", "libnginx-mod-nchan"), re.MULTILINE)
    return f"nginx {nginx}, nchan {module[1] if module else '?'}"


def missing() -> str | None:
    if _nginx() is None or not MODULE.is_file():
        return "Debian's nginx and libnginx-mod-nchan are not installed."
    return None
