"""Verifies a delivery of standard, bigcommerce, bunship or bunjang. Python 3.9 or
later, standard library alone. As a module:

    from verify import verify
    verify("standard", [os.environ["WEBHOOK_SECRET"]], request.headers, body)  # body: bytes, as received

and from a shell, with the headers as "Name: value" lines and one secret a line:

    python3 verify.py standard headers body secrets
"""
import base64
import hashlib
import hmac
import os
import sys
import time

TOLERANCE = 5 * 60  # seconds, either way


class VerificationError(Exception):
    """The delivery is not authentic, or not fresh."""


def verify(contract, secrets, headers, body, now=None):
    """Raises VerificationError unless one of the secrets signed the body (bytes) and
    the signature is fresh."""
    headers = {name.lower(): value for name, value in headers.items()}

    def header(name):
        if name not in headers:
            raise VerificationError("no header " + name)
        return headers[name]

    if contract in ("standard", "bigcommerce"):
        timestamp = header("webhook-timestamp")
        prefix = header("webhook-id") + "." + timestamp + "."
        given = [s[3:] for s in header("webhook-signature").split(" ") if s.startswith("v1,")]
        key = lambda secret: base64.b64decode(secret.removeprefix("whsec_"))
        text = lambda digest: base64.b64encode(digest).decode()
    elif contract in ("bunship", "bunjang"):
        entries = header("x-webhook-signature" if contract == "bunship" else "x-bun-webhook-signature").split(",")
        timestamp = next((s[2:] for s in entries if s.startswith("t=")), "")
        prefix = timestamp + "."
        given = [s[3:] for s in entries if s.startswith("v1=")]
        key = lambda secret: secret.encode()  # the whole text, prefix included
        text = lambda digest: digest.hex()
    else:
        raise ValueError("no contract " + contract)

    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise VerificationError("no timestamp")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise VerificationError("the timestamp is too far from now")
    matched = False
    for secret in secrets:
        want = text(hmac.new(key(secret), prefix.encode() + body, hashlib.sha256).digest())
        for signature in given:
            matched |= hmac.compare_digest(signature.encode(), want.encode())
    if not matched:
        raise VerificationError("no signature matches")


def main(contract, headers_file, body_file, secrets_file):
    with open(headers_file, encoding="latin-1") as f:
        headers = dict((part.strip() for part in line.split(":", 1)) for line in f if line.strip())
    with open(secrets_file, encoding="ascii") as f:
        secrets = f.read().split()
    with open(body_file, "rb") as f:
        body = f.read()
    now = os.environ.get("VERIFY_NOW")  # to look into an old delivery
    try:
        verify(contract, secrets, headers, body, int(now) if now else None)
    except VerificationError as error:
        sys.exit(str(error))
    print("verified")


if __name__ == "__main__":
    main(*sys.argv[1:])
