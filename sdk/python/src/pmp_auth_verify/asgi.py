"""ASGI middleware, for Starlette, FastAPI, Quart, Litestar and anything else that speaks ASGI 3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping, Sequence
from typing import Any

from ._errors import VerifyError
from ._jwt import Token
from ._verifier import Verifier

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


async def authenticate(
    verifier: Verifier, headers: Iterable[tuple[bytes, bytes]], scopes: Sequence[str] = ()
) -> Token:
    """The token of a request's raw headers, or a `VerifyError`."""
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if len(found) > 1:
        raise VerifyError("invalid_request", "more than one Authorization header", scopes=scopes)
    return await verifier.authenticate(found[0].decode("latin-1") if found else None, scopes)


class VerifierMiddleware:
    """Lets requests with a good token pass, as `request.state.token`; answers all others itself.

    `public`: paths that need no token. `scopes`: what every token needs; a route that needs more
    calls `request.state.token.require_scope("x")`. The verifier starts and ends with the server.
    """

    def __init__(
        self, app: App, verifier: Verifier, *, scopes: Sequence[str] = (), public: Collection[str] = ()
    ):
        self._app = app
        self._verifier = verifier
        self._scopes = tuple(scopes)
        self._public = frozenset(public)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, self._living(receive), send)
        elif scope["type"] not in ("http", "websocket") or scope["path"] in self._public:
            await self._app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    def _living(self, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._verifier.start()
            elif message["type"] == "lifespan.shutdown":
                await self._verifier.close()
            return message

        return received

    async def _guarded(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            token = await authenticate(self._verifier, scope["headers"], self._scopes)
            state = {**scope.get("state", {}), "token": token}
            await self._app({**scope, "state": state}, receive, sent)
        except VerifyError as error:
            if started:
                raise
            await self._refuse(scope, error, receive, send)

    async def _refuse(
        self, scope: MutableMapping[str, Any], error: VerifyError, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket":  # before it is accepted: the server answers 403
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._verifier.refusal(error)
        fields = {
            **refusal.headers,
            "content-type": "application/json",
            "content-length": str(len(refusal.body)),
        }
        headers = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal.body})
