"""What scripts/api.sh has schemathesis check besides its own checks, and the IDs
of what there is, so that requests meet something.

POSTHORN_API_WORLD is the file that api_world.py wrote; POSTHORN_API_TENANT is set
where the requests have the key of acme.
"""

import json
import os
import zlib

import schemathesis

WORLD = os.environ["POSTHORN_API_WORLD"]
world = json.load(open(WORLD))
tenant_key = "POSTHORN_API_TENANT" in os.environ
issued = set()

# The operations that show a secret or a key: in the answer to the request that made it.
MAY_SHOW = {"createEndpoint": "secret", "rotateSecret": "secret", "createKey": "key"}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Most requests name what there is, acme's and globex's in turn, but for those
    that would remove it."""
    if not path_parameters:
        return path_parameters
    pick = zlib.crc32(repr(sorted(path_parameters.items())).encode())
    whose = "globex" if pick % 3 == 0 else "acme"
    out = dict(path_parameters)
    if "tenant" in out and pick % 8 and context.operation.method != "delete":
        out["tenant"] = "globex" if pick % 5 == 0 else "acme"
    kind = context.operation.path.split("/{id}")[0].rsplit("/", 1)[-1]
    if "id" in out and pick % 7 and (context.operation.method != "delete" or tenant_key and whose == "globex"):
        out["id"] = world["ids"][whose].get(kind, out["id"])
    if "name" in out and pick % 2 and context.operation.method != "delete":
        out["name"] = "order.created" if "event-types" in context.operation.path else "standard"
    return out


@schemathesis.hook
def map_body(context, body):
    """Replays are of endpoints that there are."""
    if isinstance(body, dict) and isinstance(body.get("endpoint"), str):
        whose = "globex" if zlib.crc32(repr(body).encode()) % 3 == 0 else "acme"
        return {**body, "endpoint": world["ids"][whose]["endpoints"]}
    return body


@schemathesis.check
def nothing_secret_is_shown(ctx, response, case):
    said = response.content.decode(errors="replace") + "\n" + json.dumps(response.headers)
    operation = case.operation.definition.raw.get("operationId", "")
    new = ""
    if response.status_code == 201 and operation in MAY_SHOW:
        new = json.loads(response.content).get(MAY_SHOW[operation], "")
        # Once, as the value of that member.
        said = said.replace(json.dumps(new), "", 1) if new else said
    sent = (case.body or {}).get("secret") if isinstance(case.body, dict) else None
    if isinstance(sent, str) and len(sent) >= 16 and json.dumps(case.body).count(json.dumps(sent)[1:-1]) == 1:
        assert sent not in said, "it shows the secret that was brought"
    for text in [*world["hidden"], *issued, *([new] if new else [])]:
        assert text not in said, "it shows a secret or a key"
    if tenant_key:
        for text in world["canaries"]:
            assert text not in said, f"acme's key sees globex's {text}"
    if new:
        issued.add(new)
        with open(WORLD + ".issued", "a") as file:
            file.write(new + "\n")
