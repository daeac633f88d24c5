"""Authlib's Starlette integration, given the issuer URL and credentials alone: a web app that logs
a user in, run in this process and used over HTTP by a browser without JavaScript."""

import asyncio
import html
import os
import re
import socket
import urllib.parse

import httpx
import uvicorn
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

ISSUER = os.environ["ISSUER"]
APP_PORT = int(os.environ["APP_PORT"])
CALLBACK = f"http://127.0.0.1:{APP_PORT}/callback"

oauth = OAuth()
oauth.register(
    name="pmp",
    server_metadata_url=f"{ISSUER}/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid email profile", "code_challenge_method": "S256"},
)


async def login(request):
    return await oauth.pmp.authorize_redirect(request, CALLBACK)


async def callback(request):
    token = await oauth.pmp.authorize_access_token(request)
    user = await oauth.pmp.userinfo(token=token)
    return JSONResponse({"id_token": token["userinfo"], "userinfo": user})


app = Starlette(
    routes=[Route("/login", login), Route("/callback", callback)],
    middleware=[Middleware(SessionMiddleware, secret_key=os.urandom(32).hex())],
)


def form_of(page):
    form = re.search(r'<form\b[^>]*method="post".*?</form>', page, re.S | re.I).group(0)
    attribute = lambda tag, name: (re.search(rf'\b{name}="([^"]*)"', tag) or [None, None])[1]
    fields = {}
    for tag in re.findall(r"<input\b[^>]*>", form):
        if attribute(tag, "name") and 'type="checkbox"' not in tag:
            fields[attribute(tag, "name")] = html.unescape(attribute(tag, "value") or "")
    return html.unescape(attribute(form, "action") or ""), fields


async def walk():
    async with httpx.AsyncClient(headers={"accept": "text/html"}) as browser:
        answer = await browser.get(f"http://127.0.0.1:{APP_PORT}/login")
        for _ in range(20):
            url = answer.url
            refresh = re.search(r"url=(.*)$", answer.headers.get("refresh", ""), re.I)
            onward = answer.headers.get("location") or (refresh and refresh.group(1))
            if onward:
                answer = await browser.get(urllib.parse.urljoin(str(url), onward))
            elif url.path == "/callback":
                return answer
            else:
                action, fields = form_of(answer.text)
                if "password" in fields:
                    fields |= {"username": os.environ["LOGIN"], "password": os.environ["PASSWORD"]}
                else:
                    fields["decision"] = "allow"
                target = urllib.parse.urljoin(str(url), action)
                answer = await browser.post(
                    target,
                    data=fields,
                    headers={"origin": ISSUER.split("/t/")[0], "sec-fetch-site": "same-origin"},
                )
        raise RuntimeError("too many steps")


async def main():
    listener = socket.create_server(("127.0.0.1", APP_PORT))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        answer = await walk()
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["id_token"]["iss"] == ISSUER, body
        assert body["userinfo"]["email"] == os.environ["LOGIN"], body
        assert body["userinfo"]["sub"] == body["id_token"]["sub"], body
        print("authlib: all good")
    finally:
        server.should_exit = True
        await serving


asyncio.run(main())
