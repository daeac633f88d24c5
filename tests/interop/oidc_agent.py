"""Debian's oidc-agent-cli, given the issuer URL and a client id alone: `oidc-gen --flow=device` signs
in, `oidc-token` prints an access token and refreshes it. Ends with "all good"."""

import os
import re
import subprocess
import tempfile

import httpx

from device_user import approve

ISSUER, CLIENT_ID = os.environ["ISSUER"], os.environ["CLIENT_ID"]
INHERITED = {"PATH": os.environ["PATH"]}

with tempfile.TemporaryDirectory() as home:
    env = INHERITED | {"HOME": home, "OIDCAGENTHOME": f"{home}/agent", "TMPDIR": home, "OIDC_ENCRYPTION_PW": "x"}
    os.mkdir(env["OIDCAGENTHOME"])
    said = subprocess.run(["oidc-agent", "--no-autoload"], env=env, capture_output=True, text=True, check=True)
    env["OIDC_SOCK"] = re.search(r"OIDC_SOCK=([^;]+);", said.stdout)[1]
    env["OIDCD_PID"] = re.search(r"OIDCD_PID=([^;]+);", said.stdout)[1]
    try:
        # Without --client-secret it would ask for one; an empty one is sent as `Basic id:`.
        generating = subprocess.Popen(
            ["oidc-gen", "acme", f"--issuer={ISSUER}", f"--client-id={CLIENT_ID}", "--client-secret=",
             "--scope=openid profile email offline_access", "--flow=device", "--pw-env", "--prompt=none",
             "--confirm-default", "--no-url-call"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        output, approved = "", None
        for line in generating.stdout:
            output += line
            code = re.search(r"\b([B-Z]{4}-[B-Z]{4})\b", output)
            address = re.search(r"(http\S+/device)\b", output)
            if code and address and not approved:
                approved = approve(address[1], code[1])
        assert generating.wait(timeout=60) == 0 and approved, output

        def token(*options):
            run = subprocess.run(["oidc-token", *options, "acme"], env=env, capture_output=True, text=True)
            assert run.returncode == 0, run.stderr
            return run.stdout.strip()

        first = token()
        metadata = httpx.get(f"{ISSUER}/.well-known/openid-configuration").json()
        bearer = {"authorization": f"Bearer {first}"}
        user = httpx.get(metadata["userinfo_endpoint"], headers=bearer).json()
        assert user["email"] == os.environ["LOGIN"], user
        assert token("--time=30") == first, "a fresh token is kept"
        second = token("--force-new")
        assert second != first, "refreshed"
        assert token("--force-new") != second, "and once more, with the rotated refresh token"
    finally:
        subprocess.run(["kill", env["OIDCD_PID"]], check=False)
print("oidc-agent: all good")
