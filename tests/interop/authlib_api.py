"""Authlib's ResourceProtector around a Starlette API, given the issuer URL and its audience: by the
published keys (RFC 9068), and by introspection (RFC 7662)."""

import asyncio
import os

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ResourceProtector
from authlib.oauth2.rfc7662 import IntrospectTokenValidator
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

ISSUER = os.environ["ISSUER"]
OTHER_ISSUER = os.environ["OTHER_ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]
SECRET = os.environ["CLIENT_SECRET"]

metadata = httpx.get(f"{ISSUER}/.well-known/openid-configuration").json()


class ByKeys(JWTBearerTokenValidator):
    def get_jwks(self):
        return httpx.get(metadata["jwks_uri"]).json()


class ByIntrospection(IntrospectTokenValidator):
    def introspect_token(self, token_string):
        answer = httpx.post(
            metadata["introspection_endpoint"], data={"token": token_string}, auth=("api", SECRET)
        )
        answer.raise_for_status()
        return answer.json()


def protected(validator, scope):
    protector = ResourceProtector()
    protector.register_token_validator(validator)

    def endpoint(request):
        try:
            token = protector.validate_request([scope], request)
        except OAuth2Error as error:
            status, body, headers = error()
            return JSONResponse(body, status, dict(headers))
        return JSONResponse({"client": token["client_id"]})

    return endpoint


keys = ByKeys(issuer=ISSUER, resource_server=AUDIENCE)
introspection = ByIntrospection(realm="acme")
app = Starlette(
    routes=[
        Route("/keys/read", protected(keys, "orders:read")),
        Route("/keys/write", protected(keys, "orders:write")),
        Route("/introspection/read", protected(introspection, "orders:read")),
        Route("/introspection/write", protected(introspection, "orders:write")),
    ]
)


def token(issuer, **parameters):
    client = OAuth2Client("worker", SECRET, token_endpoint=f"{issuer}/token")
    return client.fetch_token(grant_type="client_credentials", **parameters)["access_token"]


async def main():
    live = token(ISSUER)
    files = token(ISSUER, resource=os.environ["OTHER_AUDIENCE"])
    foreign = token(OTHER_ISSUER)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:

        async def get(path, bearer=None):
            headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
            return await http.get(path, headers=headers)

        for mode in ("keys", "introspection"):
            answer = await get(f"/{mode}/read", live)
            assert (answer.status_code, answer.json()) == (200, {"client": "worker"}), answer.text
            assert (await get(f"/{mode}/read")).status_code == 401
            assert (await get(f"/{mode}/write", live)).status_code == 403
            for wrong in (files, foreign, live + "x"):
                answer = await get(f"/{mode}/read", wrong)
                assert answer.status_code == 401, (mode, answer.text)
        httpx.post(
            metadata["revocation_endpoint"], data={"token": live}, auth=("worker", SECRET)
        ).raise_for_status()
        assert (await get("/introspection/read", live)).status_code == 401
    print("authlib: all good")


asyncio.run(main())
