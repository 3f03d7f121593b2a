"""The route tables of the two listeners."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from hadir.http import (
    assets,
    audit,
    beacon,
    health,
    internal,
    live,
    market,
    mitra_status,
    mitras,
    openapi,
    pairings,
    problems,
    sessions,
    settings,
    timelines,
    webhooks,
)
from hadir.http.openapi_table import INTERNAL, PUBLIC
from hadir.http.pace import Pace
from hadir.http.reports import Reports
from hadir.http.sockets import customer_socket, dashboard_socket, door_of, mitra_socket
from hadir.realtime.dialogue import FRAMES_BURST, FRAMES_PER_S
from hadir.realtime.node import Node

HEALTH = [
    Route("/health", health.health),
    Route("/healthz", health.health),
    Route("/ready", health.ready),
    Route("/readyz", health.ready),
]


def public(node: Node) -> Starlette:
    """What apps and customers reach."""
    door = door_of(node)
    asks = Pace(pairings.ASK_EVERY_S, pairings.ASKS_BURST)
    says = Pace(1 / FRAMES_PER_S, FRAMES_BURST)
    routes = [
        *HEALTH,
        Route("/openapi.json", openapi.served(PUBLIC)),
        Route("/api/beacon", beacon.beacon),
        Route("/api/mitra/status/heartbeat", mitra_status.heartbeat, methods=["POST"]),
        Route("/api/mitra/status/online", mitra_status.online, methods=["POST"]),
        Route("/api/mitra/status/offline", mitra_status.offline, methods=["POST"]),
        Route("/api/mitra/state", mitra_status.state),
        Route("/api/mitra/offers/{pairing_id}/accept", pairings.accept, methods=["POST"]),
        Route("/api/mitra/offers/{pairing_id}/decline", pairings.decline, methods=["POST"]),
        Route("/api/pairings", partial(pairings.create, asks=asks), methods=["POST"]),
        Route("/api/pairings/{id}", pairings.pairing, methods=["GET", "DELETE"]),
        Route("/api/sessions", sessions.sessions),
        Route("/api/sessions/{id}", sessions.session),
        Route("/api/sessions/{id}/end", sessions.end, methods=["POST"]),
        Route("/api/sessions/{id}/extend", sessions.extend, methods=["POST"]),
        Route("/api/sessions/{id}/reroute", partial(sessions.reroute, asks=asks), methods=["POST"]),
        Route("/api/sessions/{id}/messages", partial(sessions.messages, says=says), methods=["GET", "POST"]),
        Route("/webhooks/xendit", webhooks.xendit, methods=["POST"]),
        WebSocketRoute("/ws/mitra", mitra_socket(node, door)),
        WebSocketRoute("/ws/customer", customer_socket(node, door)),
    ]
    return _application(node, routes, node.config.allowed_origins)


def inner(node: Node) -> Starlette:
    """What operators and the control centre reach; never exposed."""
    reports = Reports()
    routes = [
        *HEALTH,
        Route("/", assets.page),
        *(Route(f"/centre/{{version}}/{folder}{{name}}", assets.file) for folder in assets.FOLDERS),
        Route("/openapi.json", openapi.served(INTERNAL)),
        WebSocketRoute("/ws/dashboard", dashboard_socket(node)),
        Route("/metrics", internal.prometheus),
        Route("/api/internal/live", live.live),
        Route("/api/internal/series", live.series),
        Route("/api/internal/activity", live.activity),
        Route("/api/internal/counts", internal.counts),
        Route("/api/internal/instances", internal.instances),
        Route("/api/internal/available", mitras.available),
        Route("/api/internal/mitras", mitras.mitras),
        Route("/api/internal/mitras/{id}", mitras.mitra),
        Route("/api/internal/mitras/{id}/history", mitras.history),
        Route("/api/internal/mitras/{id}/timeline", timelines.mitra),
        Route("/api/internal/mitras/{id}/activate", internal.activate, methods=["POST"]),
        Route("/api/internal/mitras/{id}/deactivate", internal.deactivate, methods=["POST"]),
        Route("/api/internal/mitras/{id}/offline", internal.take_offline, methods=["POST"]),
        Route("/api/internal/auth-sessions/{sid}/revoke", internal.revoke, methods=["POST"]),
        Route("/api/internal/expiry/release", internal.release_expiry, methods=["POST"]),
        Route("/api/internal/pairings", market.pairings),
        Route("/api/internal/pairings/{id}", market.pairing),
        Route("/api/internal/pairings/{id}/timeline", timelines.pairing),
        Route("/api/internal/sessions", market.sessions),
        Route("/api/internal/sessions/{id}", market.session),
        Route("/api/internal/sessions/{id}/timeline", timelines.session),
        Route("/api/internal/sessions/{id}/end", market.end, methods=["POST"]),
        Route("/api/internal/sessions/{id}/reroute", market.reroute, methods=["POST"]),
        Route("/api/internal/sessions/{id}/paid", market.paid, methods=["POST"]),
        Route("/api/internal/payments", market.payments),
        Route("/api/internal/config", settings.all_keys),
        Route("/api/internal/config/{key}", settings.key, methods=["GET", "PUT"]),
        Route("/api/internal/config/{key}/history", settings.history),
        Route("/api/internal/audit", audit.audit),
        Route("/api/internal/reports/online-time", reports.online_time),
        Route("/api/internal/reports/hours", reports.hours),
        Route("/api/internal/reports/funnel", reports.funnel),
    ]
    return _application(node, routes, ())


class Cors(CORSMiddleware):
    """Its refusals are problem documents, too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            answer.body = problems.body(400, "origin", "Pages of this origin may not ask for this.")
            answer.headers["content-type"] = problems.MEDIA_TYPE
            answer.headers["content-length"] = str(len(answer.body))
        return answer


def _application(node: Node, routes: Sequence[BaseRoute], origins: tuple[str, ...]) -> Starlette:
    cors = Middleware(
        Cors,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "idempotency-key", "if-none-match"],
        expose_headers=["etag", "retry-after"],
    )
    app = Starlette(routes=routes, exception_handlers=problems.HANDLERS, middleware=[cors] if origins else [])
    app.router.redirect_slashes = False
    app.router.default = _nothing_here(app)
    app.state.node = node
    return app


def _nothing_here(app: Starlette) -> ASGIApp:
    otherwise = app.router.default

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await otherwise(scope, receive, send)
            return
        headers = [(b"content-type", problems.MEDIA_TYPE.encode())]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        document = problems.body(404, "not_found", "There is no socket at this path.")
        await send({"type": "websocket.http.response.body", "body": document})

    return default
