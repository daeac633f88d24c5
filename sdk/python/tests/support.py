"""An issuer in this process, with keys, metadata, feed, introspection and status lists; and helpers."""

import asyncio
import base64
import functools
import inspect
import json
import socket
import time
import uuid
import zlib
from contextlib import AsyncExitStack, nullcontext
from urllib.parse import parse_qs

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pmp_auth_verify import ClientCredentials, Verifier, VerifyError
from pmp_auth_verify._options import Clock
from pmp_auth_verify._revoked import digest

AUDIENCE = "https://api.example"
CREDENTIALS = ClientCredentials("my api", "a+b%c")


def now():
    return int(time.time())


def case(test):
    """Runs an async test with an `AsyncExitStack`; everything entered into it ends with the test."""

    @functools.wraps(test)
    def run(**values):
        async def main():
            async with AsyncExitStack() as stack:
                await test(stack, **values)

        asyncio.run(main())

    del run.__wrapped__
    parameters = list(inspect.signature(test).parameters.values())[1:]
    run.__signature__ = inspect.Signature(parameters)
    return run


class ManualClock(Clock):
    """Ahead of the real time by what `skip` adds."""

    ahead = 0.0

    def skip(self, seconds):
        self.ahead += seconds

    def wall(self):
        return time.time() + self.ahead

    def mono(self):
        return time.monotonic() + self.ahead


async def until(check, what="it"):
    """Waits until `check` holds; five seconds are enough for anything here."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if await check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"not in time: {what}")


async def refused(work, code, reason=None):
    with pytest.raises(VerifyError) as caught:
        await work
    assert caught.value.code == code, caught.value
    assert reason is None or reason in caught.value.reason, caught.value


async def dies(verifier, token):
    async def dead():
        try:
            await verifier.verify(token)
        except VerifyError as error:
            return error.reason == "revoked"

    await until(dead, "revoked")


async def set_up(stack, *, path="/t/acme", prepare=None, **options):
    """An issuer, a verifier of it, its clock, and what happened."""
    issuer = await stack.enter_async_context(FakeIssuer(path))
    if prepare:
        prepare(issuer)
    clock, events = ManualClock(), []
    if options.get("mode", "local") != "local":
        options.setdefault("credentials", CREDENTIALS)
    options.setdefault("audience", AUDIENCE)
    verifier = Verifier(issuer.url, clock=clock, on_event=lambda *event: events.append(event), **options)
    return issuer, await stack.enter_async_context(verifier), clock, events


_ALGORITHMS = {
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, jwt.algorithms.OKPAlgorithm),
}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class FakeIssuer:
    def __init__(self, path="/t/acme"):
        self.path = path
        self.keys, self.published = {}, set()
        self.count, self.instead = {}, {}
        self.entries, self.epoch, self.streams = [], "e1", set()
        self.asked = []  # the cursor of each request to the feed
        self.feed_tokens, self.feed_token_lives = set(), 600
        self.active, self.cache_control, self.lists = {}, "no-store", {}
        self.add_key("k1", "ES256")

    async def __aenter__(self):
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_level="critical",
            ws="none",
            timeout_graceful_shutdown=0,
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = self.base + self.path
        self._server = uvicorn.Server(config)
        self._server.capture_signals = nullcontext
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.002)
        return self

    async def __aexit__(self, *_):
        self.cut_streams()
        self._server.should_exit = self._server.force_exit = True
        await self._task
        self._socket.close()

    def add_key(self, kid, alg):
        make, kind = _ALGORITHMS[alg]
        private = make()
        jwk = json.loads(kind.to_jwk(private.public_key())) | {"kid": kid, "alg": alg, "use": "sig"}
        self.keys[kid] = (private, alg, jwk)
        self.published.add(kid)

    def claims(self, **extra):
        claims = {
            "iss": self.url,
            "sub": "ada",
            "aud": AUDIENCE,
            "client_id": "app",
            "iat": now(),
            "exp": now() + 600,
        }
        claims |= {"jti": str(uuid.uuid4()), "scope": "orders:read", **extra}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, kid="k1", typ="at+jwt", header=None, **extra):
        private, alg, _ = self.keys[kid]
        return self.sign({"typ": typ, "kid": kid, **(header or {})}, self.claims(**extra), private, alg)

    @staticmethod
    def sign(header, claims, private, alg):
        header = {name: value for name, value in {"alg": alg, **header}.items() if value is not None}
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        made = jwt.algorithms.get_default_algorithms()[alg].sign(text.encode(), private)
        return f"{text}.{b64(made)}"

    # The feed.

    def cursor(self):
        return f"{self.epoch}.{len(self.entries)}"

    def page(self, start=0, more=False):
        page = {"iss": self.url, "cursor": self.cursor(), "more": more, "as_of": now() * 1000}
        return page | {"entries": self.entries[start:]}

    def revoke(self, *entries):
        """Appends entries and tells every stream."""
        start = len(self.entries)
        for entry in entries:
            entry = {"exp": now() + 660, **entry}
            key = entry.pop("key", None)
            self.entries.append(entry | ({"h": digest(key)} if key else {}))
        for queue in self.streams:
            queue.put_nowait(self._event("revoked", self.page(start), self.cursor()))

    def new_epoch(self, epoch, *entries):
        self.epoch, self.entries = epoch, list(entries)

    def end_streams(self, last):
        for queue in self.streams:
            queue.put_nowait(last)
            queue.put_nowait(None)

    def cut_streams(self):
        for queue in self.streams:
            queue.put_nowait(None)

    @staticmethod
    def _event(name, data, cursor=None):
        line = f"id: {cursor}\n" if cursor else ""
        return f"event: {name}\n{line}data: {json.dumps(data)}\n\n"

    async def _app(self, scope, receive, send):
        route = scope["path"].removeprefix(self.path)
        self.count[route] = self.count.get(route, 0) + 1
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        if route in self.instead:
            answer = self.instead[route](headers)
            status, value, extra = answer if answer is not None else (await asyncio.sleep(0.5), {}, {})
            return await reply(send, status or 503, value, extra)
        if route == "/revocations":
            return await self._feed(headers, query, receive, send)
        if route in self.lists:
            return await self._list(headers, self.lists[route], send)
        status, value, extra = self._simple(route, headers, form)
        await reply(send, status, value, extra)

    def _simple(self, route, headers, form):
        if route.endswith("/.well-known/openid-configuration"):
            return 200, self.metadata(), {}
        if route == "/jwks.json":
            return 200, {"keys": [self.keys[kid][2] for kid in self.published]}, {}
        if route not in ("/token", "/introspect"):
            return 404, {}, {}
        if headers.get("authorization") != "Basic " + base64.b64encode(b"my+api:a%2Bb%25c").decode():
            return 401, {"error": "invalid_client"}, {}
        if route == "/introspect":
            claims = self.active.get(form["token"])
            kept = {"cache-control": self.cache_control if claims else "no-store"}
            return 200, {"active": True, **claims} if claims else {"active": False}, kept
        if (form["grant_type"], form["scope"]) != ("client_credentials", "revocations:read"):
            return 400, {"error": "invalid_scope"}, {}
        token = str(uuid.uuid4())
        self.feed_tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.feed_token_lives}, {}

    def metadata(self):
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks.json",
            "token_endpoint": f"{self.url}/token",
            "introspection_endpoint": f"{self.url}/introspect",
            "revocation_feed_endpoint": f"{self.url}/revocations",
        }

    async def _feed(self, headers, query, receive, send):
        if headers.get("authorization", "")[7:] not in self.feed_tokens:
            return await reply(send, 401, {})
        after = headers.get("last-event-id", query.get("after"))
        self.asked.append(after)
        epoch, _, seq = (after or "").partition(".")
        if after is not None and epoch != self.epoch:
            return await reply(send, 410, {})
        start = int(seq) if after else None
        if headers.get("accept") == "text/event-stream":
            return await self._stream(start, receive, send)
        if "wait" in query and (start or 0) >= len(self.entries):
            await asyncio.sleep(0.02)  # a short "long" poll
            if epoch != self.epoch:
                return await reply(send, 410, {})
        return await reply(send, 200, self.page(start or 0))

    async def _stream(self, start, receive, send):
        queue = asyncio.Queue()
        queue.put_nowait("retry: 100\n\n")
        if start is None:
            half = len(self.entries) // 2  # in two pieces, as large ones come
            first = self.page() | {"more": True, "entries": self.entries[:half]}
            queue.put_nowait(self._event("snapshot", first))
            queue.put_nowait(self._event("snapshot", self.page(half), self.cursor()))
        elif start < len(self.entries):
            queue.put_nowait(self._event("revoked", self.page(start), self.cursor()))
        self.streams.add(queue)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.create_task(receive())
        try:
            while not gone.done():
                try:
                    text = await asyncio.wait_for(queue.get(), 0.05)
                except TimeoutError:
                    text = f": {now()}\n\n"  # the heartbeat
                if text is None:
                    break
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self.streams.discard(queue)

    def publish(self, route, data, *, bits=1, ttl=30, typ="statuslist+jwt", **extra):
        """Publishes a status list; gives its address."""
        claims = {"sub": self.url + route, "iat": now(), "ttl": ttl}
        claims |= {"status_list": {"bits": bits, "lst": b64(zlib.compress(bytes(data)))}, **extra}
        claims = {name: value for name, value in claims.items() if value is not None}
        private, alg, _ = self.keys["k1"]
        self.lists[route] = self.sign({"typ": typ, "kid": "k1"}, claims, private, alg)
        return self.url + route

    @staticmethod
    async def _list(headers, text, send):
        etag = f'"{digest(text)}"'
        same = headers.get("if-none-match") == etag
        await reply(send, 304 if same else 200, b"" if same else text.encode(), {"etag": etag})


async def reply(send, status, value, headers=None):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    if status == 304:
        del fields["content-length"]
    raw = [(name.encode(), text.encode()) for name, text in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
