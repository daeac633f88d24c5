"""Checks access tokens and their revocation in an API: locally, in microseconds."""

from ._credentials import ClientCredentials
from ._errors import Refusal, VerifyError
from ._jwt import Token
from ._options import Grace, Issuer
from ._verifier import Verifier

__all__ = ["ClientCredentials", "Grace", "Issuer", "Refusal", "Token", "Verifier", "VerifyError"]
