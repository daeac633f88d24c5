"""An API behind pmp-auth-verify: `uvicorn app:app --port 3002`.

Configuration by environment: ISSUER, AUDIENCE, CLIENT_ID, CLIENT_SECRET; MODE (feed).
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urljoin

from fastapi import Depends, FastAPI, Response

from pmp_auth_verify import ClientCredentials, Grace, Token, Verifier
from pmp_auth_verify.fastapi import authenticated, require_scope

verifier = Verifier(
    os.environ["ISSUER"],
    audience=os.environ["AUDIENCE"],
    mode=os.environ.get("MODE", "feed"),
    credentials=ClientCredentials(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    on_feed_loss=Grace(60),
    resource_metadata=urljoin(os.environ["AUDIENCE"], "/.well-known/oauth-protected-resource"),
    on_event=lambda issuer, event, error: print(event, error or "", file=sys.stderr),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with verifier:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
def readyz(response: Response) -> None:
    if not all(one["ready"] for one in verifier.health()):
        response.status_code = 503


@app.get("/me")
def me(token: Annotated[Token, Depends(authenticated(verifier))]) -> dict[str, str]:
    return {"subject": token.subject, "client": token.client_id}


@app.get("/orders")
def orders(token: Annotated[Token, Depends(require_scope(verifier, "orders:read"))]) -> dict[str, object]:
    return {"orders": [], "for": token.subject}
