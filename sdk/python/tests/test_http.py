"""ASGI middleware and FastAPI dependencies: the answers of RFC 6750, and nothing more."""

import json
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request
from support import case, now, set_up

from pmp_auth_verify import Token
from pmp_auth_verify.asgi import VerifierMiddleware
from pmp_auth_verify.fastapi import authenticated, require_scope

METADATA = "https://api.example/.well-known/oauth-protected-resource"
OPTIONS = {"realm": 'the "API"', "resource_metadata": METADATA}
REALM, COMMON = 'realm="the \\"API\\""', f'resource_metadata="{METADATA}"'


async def client(stack, app):
    transport = httpx.ASGITransport(app)
    return await stack.enter_async_context(
        httpx.AsyncClient(transport=transport, base_url="https://api.example")
    )


async def refusals(http, issuer, body):
    async def ask(*headers):
        answer = await http.get("/orders", headers=[("authorization", header) for header in headers])
        return answer.status_code, answer.headers.get("www-authenticate"), answer.json()

    assert await ask() == (401, f'Bearer {REALM}, scope="orders:read", {COMMON}', body("unauthorized"))
    assert (await ask("Basic eDp5"))[0] == 401
    invalid = 'error="invalid_token", error_description="The access token is not valid."'
    expired = f"Bearer {issuer.token(exp=now() - 60)}"
    assert await ask(expired) == (401, f"Bearer {REALM}, {invalid}, {COMMON}", body("invalid_token"))
    status, challenge, _ = await ask(f"Bearer {issuer.token(scope='other')}")
    assert status == 403
    assert 'error="insufficient_scope"' in challenge and f'scope="orders:read", {COMMON}' in challenge
    good = f"bearer {issuer.token()}"
    for headers in (("Bearer",), ("Bearer a b",), (good, good)):
        assert (await ask(*headers))[0] == 400
    assert (await ask(good))[::2] == (200, {"sub": "ada"})


@case
async def test_fastapi_routes_are_guarded(stack):
    issuer, verifier, _, _ = await set_up(stack, **OPTIONS)
    app = FastAPI()

    @app.get("/orders")
    def orders(token: Annotated[Token, Depends(require_scope(verifier, "orders:read"))]):
        return {"sub": token.subject}

    @app.get("/any")
    def anything(token: Annotated[Token, Depends(authenticated(verifier))]):
        return {"client": token.client_id}

    http = await client(stack, app)
    await refusals(http, issuer, lambda error: {"detail": error})
    answer = await http.get("/any", headers={"authorization": f"Bearer {issuer.token(scope='other')}"})
    assert answer.json() == {"client": "app"}
    assert "HTTPBearer" in json.dumps(app.openapi())


def state_app():
    app = FastAPI()

    @app.get("/orders")
    def orders(request: Request):
        request.state.token.require_scope("orders:read")
        return {"sub": request.state.token.subject}

    @app.get("/readyz")
    def readyz():
        return {}

    return app


@case
async def test_an_asgi_app_is_guarded(stack):
    issuer, verifier, _, _ = await set_up(stack, **OPTIONS)
    outside = VerifierMiddleware(state_app(), verifier, scopes=["orders:read"], public={"/readyz"})
    http = await client(stack, outside)
    await refusals(http, issuer, lambda error: {"error": error})
    assert (await http.get("/readyz")).status_code == 200
    # As FastAPI adds it, and the scope asked for by the route.
    app = state_app()
    app.add_middleware(VerifierMiddleware, verifier=verifier)
    inside = await client(stack, app)
    lacking = {"authorization": f"Bearer {issuer.token(scope='other')}"}
    answer = await inside.get("/orders", headers=lacking)
    assert (answer.status_code, answer.json()) == (403, {"error": "insufficient_scope"})


@case
async def test_the_middleware_starts_and_ends_the_verifier_and_closes_websockets(stack):
    _, verifier, _, _ = await set_up(stack)
    messages = iter(
        [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, {"type": "websocket.connect"}]
    )
    seen, sent = [], []

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        seen.append(await receive())
        await verifier.ready(5)
        seen.append(await receive())

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    guarded = VerifierMiddleware(app, verifier)
    await guarded({"type": "lifespan"}, receive, send)
    assert len(seen) == 2 and verifier.health()[0]["ready"] is False
    await guarded({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@case
async def test_what_cannot_be_known_is_503_and_says_nothing_of_the_cause(stack):
    def prepare(issuer):
        issuer.instead["/jwks.json"] = lambda _: (500, {"secret": "detail"}, {})

    issuer, verifier, _, _ = await set_up(stack, prepare=prepare, **OPTIONS)
    http = await client(stack, VerifierMiddleware(FastAPI(), verifier))
    answer = await http.get("/", headers={"authorization": f"Bearer {issuer.token()}"})
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert (answer.headers["retry-after"], answer.headers.get("www-authenticate")) == ("1", None)
    assert verifier.refusal(RuntimeError("a bug")).body == b'{"error":"server_error"}'
