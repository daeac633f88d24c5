"""FastAPI dependencies: `token: Annotated[Token, Depends(require_scope(verifier, "orders:read"))]`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ._errors import VerifyError
from ._jwt import Token
from ._verifier import Verifier
from .asgi import authenticate

_SCHEME = HTTPBearer(auto_error=False)  # for the OpenAPI document


def require_scope(verifier: Verifier, *scopes: str) -> Callable[..., Awaitable[Token]]:
    """A dependency that gives the token of a request, if it is good and has all of `scopes`."""

    async def token(request: Request, _: HTTPAuthorizationCredentials | None = Security(_SCHEME)) -> Token:
        try:
            return await authenticate(verifier, request.headers.raw, scopes)
        except VerifyError as error:
            refusal = verifier.refusal(error)
            raise HTTPException(refusal.status, refusal.error, refusal.headers) from error

    return token


def authenticated(verifier: Verifier) -> Callable[..., Awaitable[Token]]:
    """A dependency that gives the token of a request, whatever its scopes."""
    return require_scope(verifier)
