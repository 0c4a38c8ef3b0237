"""Two tenants for scripts/api.sh: acme, whose key schemathesis gets, and globex,
of which that key must never see anything.

    api_world.py seed WORLD ADDRESSES POSTHORN ADMIN_KEY   makes them, writes WORLD (JSON)
    api_world.py globex WORLD ADDRESSES ADMIN_KEY          prints what is registered of globex
    api_world.py log WORLD LOG                             fails if a secret is in the log
"""

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone


class Api:
    def __init__(self, addresses, key):
        self.addresses = json.load(open(addresses))
        self.key = key

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            self.addresses["admin"] + path,
            None if body is None else json.dumps(body).encode(),
            {"X-Auth-Token": self.key, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            sys.exit(f"api: {method} {path}: {error.code} {error.read().decode()}")


def seed(world, addresses, posthorn, admin_key):
    api = Api(addresses, admin_key)
    canaries = []

    def canary(name):
        canaries.append(name + secrets.token_hex(12))
        return canaries[-1]

    def secret():
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()

    w = {"hidden": [admin_key], "values": [], "ids": {}}
    api.call("POST", "/v1/event-types", {"name": "order.created", "examples": [{"total": 1}]})
    since = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    for tenant in ("acme", "globex"):
        # Only what is globex's is a canary.
        name = canary if tenant == "globex" else (lambda text: text)
        at, brought, value = f"/v1/tenants/{tenant}", secret(), secrets.token_hex(16)
        api.call("POST", "/v1/tenants", {"id": tenant, "description": name("tenant")})
        endpoint = api.call("POST", at + "/endpoints", {
            "url": f"https://{name('host')}.invalid/hook", "description": name("endpoint"), "secret": brought,
            "headers": {name("X-Name-"): value},
        })
        made = api.call("POST", at + "/endpoints/" + endpoint["id"] + "/secrets", {})
        key = api.call("POST", "/v1/keys", {"tenant": tenant, "description": name("key")})
        replay = api.call("POST", at + "/replays", {
            "endpoint": endpoint["id"], "since": since, "events": [name("pattern")], "paused": True,
        })
        subprocess.run(
            [posthorn, "event", "send", "--brokers", api.addresses["kafka"], "--topic", "events", "--tenant", tenant,
             "--type", "order.created", "--id", name("event"), "--data", json.dumps({"text": name("payload")})],
            check=True, stdout=subprocess.DEVNULL,
        )
        w["hidden"] += [brought, made["secret"], key["key"]]
        w["values"].append(value)
        w["ids"][tenant] = {"endpoints": endpoint["id"], "replays": replay["id"], "keys": key["id"], "secret": made["id"]}
        if tenant == "acme":
            w["key"] = key["key"]
        else:
            canaries.append(value)
    for tenant in ("acme", "globex"):
        for _ in range(120):  # the ledger is some seconds behind
            found = api.call("GET", f"/v1/tenants/{tenant}/deliveries")["items"]
            if found:
                break
            time.sleep(0.25)
        else:
            sys.exit(f"api: the event of {tenant} is not in the ledger")
        w["ids"][tenant]["deliveries"] = found[0]["id"]
    w["canaries"] = canaries
    json.dump(w, open(world, "w"))


def globex(world, addresses, admin_key):
    """What no request of acme's may change; the line itself changes deliveries."""
    ids = json.load(open(world))["ids"]["globex"]
    api = Api(addresses, admin_key)
    at = "/v1/tenants/globex"
    for path in (at, at + "/endpoints", at + "/endpoints/" + ids["endpoints"] + "/secrets", at + "/pause", at + "/replays",
                 "/v1/keys/" + ids["keys"], at + "/audit"):
        print(json.dumps(api.call("GET", path), sort_keys=True))


# As they are issued: 24 bytes or more behind the prefix.
ISSUED = re.compile(r"wh(?:sec|sk)_[A-Za-z0-9+/]{32,}|ph_[a-z2-7]{16}_[a-z2-7]{52}")


def log(world, path):
    w = json.load(open(world))
    shown = w["hidden"] + w["values"]
    if os.path.exists(world + ".issued"):
        shown += open(world + ".issued").read().split()
    for n, line in enumerate(open(path, errors="replace"), 1):
        if ISSUED.search(line) or any(text in line for text in shown):
            sys.exit(f"api: a secret is in the log, line {n}: {line}")
    print(f"api: none of {len(shown)} secrets, keys and header values is in the log")


if __name__ == "__main__":
    {"seed": seed, "globex": globex, "log": log}[sys.argv[1]](*sys.argv[2:])
