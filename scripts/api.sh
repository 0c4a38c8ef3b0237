#!/usr/bin/env bash
# Lints the OpenAPI document (redocly, from npm), and has schemathesis (from PyPI)
# send what it derives from it, EXAMPLES (25) requests an operation, to the API of a
# development line. An answer that the document doesn't describe, a status of 500,
# or a secret in the line's log is a failure. Needs npm, Python and the network once.
#
#   scripts/api.sh .cache/api
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$1
redocly_version=2.77.0
schemathesis_version=4.32.5

mkdir -p "$tools"
[ -x "$tools/node_modules/.bin/redocly" ] ||
	npm install --prefix "$tools" --no-save --no-fund --no-audit --silent "@redocly/cli@$redocly_version"
if [ ! -x "$tools/py/bin/schemathesis" ]; then
	python3 -m venv "$tools/py"
	"$tools/py/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis_version"
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
POSTHORN_HTTP_RATE_LIMIT=0 "$work/posthorn" dev --data-dir "$work/data" --kafka-port 0 --admin-port 0 --clickhouse-port 0 >"$work/log" 2>&1 &
line=$!
for _ in $(seq 300); do
	[ -e "$work/data/addresses.json" ] && break
	kill -0 "$line" || { cat "$work/log"; exit 1; }
	sleep 0.1
done
admin=$(sed -n 's/.*"admin": *"\([^"]*\)".*/\1/p' "$work/data/addresses.json")

status=0
"$tools/py/bin/schemathesis" run "$admin/openapi.json" --url "$admin" --phases examples,fuzzing --max-examples "${EXAMPLES:-25}" --seed "${SEED:-1}" \
	--checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
	--request-timeout 30 --no-color || status=$?

# Secrets and keys as they are issued: 24 bytes or more behind the prefix.
if grep -nE 'wh(sec|sk)_[A-Za-z0-9+/]{32,}|ph_[a-z2-7]{16}_[a-z2-7]{52}' "$work/log"; then
	echo 'api: a secret is in the log' >&2
	status=1
fi
exit "$status"
