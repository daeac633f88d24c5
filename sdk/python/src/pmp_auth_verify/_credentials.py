"""How we prove who we are: HTTP Basic at the issuer's endpoints, a bearer token at the feed."""

from __future__ import annotations

import base64
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from ._http import Context, ask, is_number, parse_object

if TYPE_CHECKING:
    from ._issuer import IssuerKeys

FOREVER = float("inf")


@dataclass(frozen=True)
class ClientCredentials:
    """A confidential client of the issuer, whose `audiences` name this API."""

    client_id: str
    client_secret: str = field(repr=False)
    auth_method: str = "client_secret_basic"
    #: The `resource` (RFC 8707) to ask the feed's token for, where the tenant has no default.
    resource: str | None = None

    def authentication(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form fields that authenticate a request (RFC 6749 §2.3.1)."""
        if self.auth_method == "client_secret_post":
            return {}, {"client_id": self.client_id, "client_secret": self.client_secret}
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}, {}


class TokenSource:
    """Where the token for the feed comes from: the client credentials, or your own function."""

    def __init__(self, issuer: IssuerKeys, context: Context):
        self._issuer = issuer
        self._context = context
        self._token = ""
        self._renew_at = -FOREVER

    async def get(self) -> tuple[str, float]:
        """The token, and the seconds until it is to be renewed: before its end."""
        function = self._issuer.settings.feed_token
        if function is not None:
            token = function(self._issuer.url)
            if inspect.isawaitable(token):
                token = await token
            if not isinstance(token, str) or not token:
                raise ValueError("feed_token gave no token")
            return token, FOREVER
        if self._context.mono() >= self._renew_at:
            await self._grant()
        return self._token, self._renew_at - self._context.mono()

    def drop(self) -> None:
        """The token was refused: the next one is a new one."""
        self._renew_at = -FOREVER

    async def _grant(self) -> None:
        credentials = self._issuer.settings.credentials
        assert credentials is not None  # checked with the options
        endpoint = (await self._issuer.metadata())["token_endpoint"]
        headers, form = credentials.authentication()
        form |= {"grant_type": "client_credentials", "scope": "revocations:read"}
        if credentials.resource:
            form["resource"] = credentials.resource
        asked = self._context.mono()
        answer = parse_object((await ask(self._context, "POST", endpoint, headers=headers, data=form)).body)
        token, lives = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise ValueError("the token endpoint gave no token")
        if not is_number(lives) or lives <= 0:
            lives = 60
        # A tenth before its end, and never less than a second after its beginning.
        self._token, self._renew_at = token, asked + max(lives * 0.9, 1)
