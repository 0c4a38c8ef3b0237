#!/usr/bin/env bash
# Lints the OpenAPI document (redocly, from npm), and has schemathesis (from PyPI)
# send what it derives from it to the API of a development line that asks for keys:
# EXAMPLES (6) requests an operation with a tenant's key, and as many with an
# administrator's. An answer that the document doesn't describe, a status of 500, a
# secret in an answer (but the one to the request that made it) or in the line's log,
# or anything of another tenant's is a failure.
#
# Without npm or Python, or the network, it says so and succeeds; with
# POSTHORN_REQUIRE_API_CONFORMANCE=1 that is a failure.
#
#   scripts/api.sh .cache/api
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$1
redocly_version=2.77.0
schemathesis_version=4.32.5

without() {
	echo "api: SKIPPED: $1; the API is not driven from its OpenAPI document"
	[ "${POSTHORN_REQUIRE_API_CONFORMANCE:-}" = 1 ] && exit 1
	exit 0
}

mkdir -p "$tools"
if [ ! -x "$tools/node_modules/.bin/redocly" ]; then
	command -v npm >/dev/null || without 'npm is not installed'
	npm install --prefix "$tools" --no-save --no-fund --no-audit --silent "@redocly/cli@$redocly_version" || without 'npm install failed'
fi
if [ ! -x "$tools/py/bin/schemathesis" ]; then
	command -v python3 >/dev/null || without 'python3 is not installed'
	python3 -m venv "$tools/py" || without 'python3 has no venv'
	"$tools/py/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis_version" || without 'pip install failed'
fi

"$tools/node_modules/.bin/redocly" lint --config scripts/redocly.yaml api/openapi.json

work=$(mktemp -d)
line=
stop() {
	if [ -n "$line" ]; then
		kill "$line" 2>/dev/null || true
		wait "$line" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap stop EXIT
CGO_ENABLED=0 "${GO:-go}" build -o "$work/posthorn" ./cmd/posthorn
admin_key=$(head -c 24 /dev/urandom | od -An -vtx1 | tr -d ' \n')
POSTHORN_HTTP_RATE_LIMIT=0 POSTHORN_HTTP_AUTH=required POSTHORN_HTTP_ADMIN_KEYS=$admin_key \
	"$work/posthorn" dev --data-dir "$work/data" --kafka-port 0 --admin-port 0 --clickhouse-port 0 >"$work/log" 2>&1 &
line=$!
addresses=$work/data/addresses.json
for _ in $(seq 300); do
	[ -e "$addresses" ] && break
	kill -0 "$line" || { cat "$work/log"; exit 1; }
	sleep 0.1
done
grep -q '"clickhouse"' "$addresses" || without 'there is no libchdb for the ledger'

world=$work/world.json
with() { PYTHONDONTWRITEBYTECODE=1 "$tools/py/bin/python3" scripts/api_world.py "$@"; }
with seed "$world" "$addresses" "$work/posthorn" "$admin_key"

admin=$(sed -n 's/.*"admin": *"\([^"]*\)".*/\1/p' "$addresses")
status=0
# drive WHOSE KEY
drive() {
	echo "api: with $1"
	(
		cd "$work" # schemathesis leaves its memory where it runs
		PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$scripts SCHEMATHESIS_HOOKS=api_hooks POSTHORN_API_WORLD=$world \
			"$schemathesis" run "$admin/openapi.json" --url "$admin" --header "X-Auth-Token: $2" --generation-with-security-parameters false \
			--phases examples,fuzzing --max-examples "${EXAMPLES:-6}" --seed "${SEED:-1}" --no-shrink --generation-database none --warnings off \
			--checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,nothing_secret_is_shown \
			--request-timeout 30 --no-color
	) || status=$?
}
schemathesis=$(realpath -s "$tools/py/bin/schemathesis")
scripts=$PWD/scripts

with globex "$world" "$addresses" "$admin_key" >"$work/before"
POSTHORN_API_TENANT=acme drive "acme's key" "$("$tools/py/bin/python3" -c 'import json, sys; print(json.load(open(sys.argv[1]))["key"])' "$world")"
with globex "$world" "$addresses" "$admin_key" >"$work/after"
if ! diff "$work/before" "$work/after"; then
	echo "api: acme's key changed what is globex's" >&2
	status=1
fi
drive "an administrator's key" "$admin_key"
with log "$world" "$work/log" || status=1
exit "$status"
