"""The peers that are written in Python, each a program: `python -m asgi.plain PORT VALKEY_URL SECRET`."""
