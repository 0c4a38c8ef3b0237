#!/usr/bin/env bash
# Fetches the published standardwebhooks packages of npm and PyPI into the
# directory given, for the test that they verify our deliveries. Without npm or
# Python, or the network, it says so and succeeds; with POSTHORN_REQUIRE_RECEIVERS=1
# that is a failure.
#
#   scripts/receivers.sh .cache/receivers
set -euo pipefail
target=$1
npm_version=1.1.1
pypi_version=1.1.0

without() {
	echo "receivers: $1; the published libraries are not tested"
	[ "${POSTHORN_REQUIRE_RECEIVERS:-}" = 1 ] && exit 1
	exit 0
}

mkdir -p "$target"
if [ ! -d "$target/node_modules/standardwebhooks" ]; then
	command -v npm >/dev/null || without 'npm is not installed'
	npm install --prefix "$target" --no-save --no-fund --no-audit --silent "standardwebhooks@$npm_version" || without 'npm install failed'
fi
if [ ! -d "$target/py/lib" ] || ! "$target/py/bin/python3" -c 'import standardwebhooks' 2>/dev/null; then
	command -v python3 >/dev/null || without 'python3 is not installed'
	python3 -m venv "$target/py" || without 'python3 has no venv'
	"$target/py/bin/pip" install --quiet --disable-pip-version-check "standardwebhooks==$pypi_version" || without 'pip install failed'
fi
