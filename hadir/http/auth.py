"""Tokens: HS256 only, every claim required; who asks, and what they may do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

import jwt
from starlette.requests import HTTPConnection

from hadir.config import Config
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime.messages import BEARER_SUBPROTOCOL, is_uuid
from hadir.realtime.node import Node
from hadir.realtime.peer import Login

log = logging.getLogger(__name__)

ALGORITHM = "HS256"
LEEWAY_S = 10
CONTROL_CENTRE = ("operator", "viewer")
ROLES = ("mitra", "customer", *CONTROL_CENTRE)
CLAIMS = ["sub", "role", "sid", "exp", "iat"]


def mint(config: Config, role: str, sub: str, sid: str, ttl_s: float) -> str:
    """A token that this server accepts for `ttl_s` seconds."""
    now = int(time.time())
    claims = {"sub": sub, "role": role, "sid": sid, "iat": now, "exp": now + round(ttl_s)}
    if config.auth_jwt_issuer:
        claims["iss"] = config.auth_jwt_issuer
    if config.auth_jwt_audience:
        claims["aud"] = config.auth_jwt_audience
    return jwt.encode(claims, config.auth_jwt_secret, algorithm=ALGORITHM)


class Verifier:
    """Verifies tokens against the current secret, then the previous one."""

    def __init__(self, config: Config) -> None:
        self._issuer = config.auth_jwt_issuer
        self._audience = config.auth_jwt_audience
        self._secrets = [s for s in (config.auth_jwt_secret, config.auth_jwt_secret_previous) if s]
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})
        self._required = CLAIMS + ["iss"] * bool(self._issuer) + ["aud"] * bool(self._audience)

    def __call__(self, token: str) -> Login:
        """Who the token says is there. Raises `Refused` (401) with what is wrong with it."""
        claims = self._decode(token)
        sub, role, sid = claims["sub"], claims["role"], claims["sid"]
        if not (isinstance(sub, str) and is_uuid(sub.lower()) and isinstance(sid, str) and is_uuid(sid.lower())):
            raise _bad("The token's sub and sid must be UUIDs.")
        if role not in ROLES:
            raise _bad(f"The token's role must be one of {', '.join(ROLES)}.")
        return Login(sub.lower(), role, sid.lower(), float(claims["exp"]) - time.time())

    def _decode(self, token: str) -> dict[str, Any]:
        problem: jwt.PyJWTError | None = None
        for secret in self._secrets:
            try:
                return self._jwt.decode(
                    token,
                    secret,
                    algorithms=[ALGORITHM],
                    leeway=LEEWAY_S,
                    issuer=self._issuer,
                    audience=self._audience,
                    options={"require": self._required},
                )
            except jwt.InvalidSignatureError as error:
                problem = error
            except jwt.ExpiredSignatureError:
                raise Refused(401, "token_expired", "The token has expired.") from None
            except jwt.PyJWTError as error:
                raise _bad(f"The token is not valid: {error}.") from None
        raise _bad("The token's signature is not ours.") from problem


def _bad(why: str) -> Refused:
    return Refused(401, "bad_token", why)


def bearer_of(connection: HTTPConnection) -> str:
    """The token of a request or handshake: `Authorization: Bearer`, or the `bearer.<jwt>` subprotocol of browsers."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(BEARER_SUBPROTOCOL):
            return str(offered.removeprefix(BEARER_SUBPROTOCOL))
    raise _bad("A token is needed: Authorization: Bearer <token>.")


def require_role(login: Login, roles: Iterable[str]) -> Login:
    """Raises `Refused` (403) when a token of another role is used here."""
    if login.role not in roles:
        raise Refused(403, "wrong_role", f"This needs a token of role {' or '.join(roles)}.")
    return login


async def reader(node: Node, connection: HTTPConnection) -> tuple[Login, bool]:
    """Someone of the control centre, and whether the login could be checked.

    While Postgres is away, the token itself is good enough for reading.
    """
    login = require_role(node.sockets.verify(bearer_of(connection)), CONTROL_CENTRE)
    try:
        await check_session(node, login)
    except PostgresUnavailable:
        return login, False
    return login, True


async def operator(node: Node, connection: HTTPConnection) -> Login:
    """Someone who may change things."""
    login = require_role(node.sockets.verify(bearer_of(connection)), CONTROL_CENTRE)
    if login.role != "operator":
        raise Refused(403, "viewer", "A viewer may read only; this needs a token of role operator.")
    await check_session(node, login)
    return login


def acted(who: Login, action: str, subject: str) -> None:
    """Someone of the control centre did something."""
    log.info("operator.acted", extra={"actor": who.subject_id, "action": action, "subject": subject})


async def check_session(node: Node, login: Login) -> None:
    """Raises `Refused` (401) where the login is no longer good, `PostgresUnavailable`."""
    valid = await node.postgres.fetchval(sql("session_valid"), login.sid, login.subject_id, login.role)
    if not valid:
        raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")
