"""oauthlib's DeviceClient under requests-oauthlib, given the issuer URL and a client id alone: codes,
polling at the server's pace, refresh. Ends with "all good"."""

import os
import time
import urllib.parse

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on loopback

import requests
from oauthlib.oauth2 import DeviceClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from device_user import approve

ISSUER, CLIENT_ID = os.environ["ISSUER"], os.environ["CLIENT_ID"]
SCOPE = "openid profile email offline_access"

metadata = requests.get(f"{ISSUER}/.well-known/openid-configuration", timeout=10).json()
assert metadata["issuer"] == ISSUER

client = DeviceClient(CLIENT_ID)
endpoint = metadata["device_authorization_endpoint"]
# oauthlib spells the request as an address; RFC 8628 section 3.1 has the parameters in the body.
uri = client.prepare_request_uri(endpoint, scope=SCOPE.split())
form = {"content-type": "application/x-www-form-urlencoded"}
answer = requests.post(endpoint, data=urllib.parse.urlsplit(uri).query, headers=form, timeout=10)
assert answer.status_code == 200, answer.text
codes = answer.json()
assert isinstance(codes["interval"], int) and isinstance(codes["expires_in"], int)
assert codes["user_code"] in codes["verification_uri_complete"].replace("%2D", "-")

session = OAuth2Session(client=client, scope=SCOPE)


def poll():
    return session.fetch_token(
        metadata["token_endpoint"],
        device_code=codes["device_code"],
        include_client_id=True,
        timeout=10,
    )


def refused(what):
    try:
        poll()
    except OAuth2Error as error:
        assert error.error == what, error
    else:
        raise AssertionError(f"expected {what}")


interval = codes["interval"]
refused("authorization_pending")
refused("slow_down")  # at once again: RFC 8628 section 3.5
interval += 5
print(approve(codes["verification_uri"], codes["user_code"]))
time.sleep(interval)
token = poll()
assert token["token_type"] == "Bearer" and token["refresh_token"], token

bearer = {"authorization": f"Bearer {token['access_token']}"}
user = requests.get(metadata["userinfo_endpoint"], headers=bearer, timeout=10).json()
assert user["email"] == os.environ["LOGIN"], user

time.sleep(interval)
refused("invalid_grant")  # a device code is used once

first = token["refresh_token"]
again = session.refresh_token(metadata["token_endpoint"], client_id=CLIENT_ID, refresh_token=first, timeout=10)
assert again["refresh_token"] != first
print("oauthlib: all good")
