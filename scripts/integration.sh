#!/usr/bin/env bash
# Runs the tests against Apache Kafka, and says so clearly where they can't run:
# they need Java 17 or later and Maven. With POSTHORN_REQUIRE_KAFKA=1 that is a
# failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${GO:-go}

missing=()
major=0
if command -v java >/dev/null; then
	# "17.0.15" is 17, the old "1.8.0_392" is 1: both say whether it is 17 or later.
	major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
fi
[ "${major:-0}" -ge 17 ] || missing+=("Java 17 or later")
command -v mvn >/dev/null || missing+=("Maven")

if [ "${#missing[@]}" -gt 0 ]; then
	what=$(printf '%s, ' "${missing[@]}")
	if [ "${POSTHORN_REQUIRE_KAFKA:-}" = 1 ]; then
		echo "integration: the tests against Apache Kafka need ${what%, }, which this machine doesn't have" >&2
		exit 1
	fi
	echo "SKIPPED: the tests against Apache Kafka, which need ${what%, }"
	exit 0
fi

# The packages that have files of this build tag, the helpers of the suite first:
# what they can't do fails all others.
mapfile -t packages < <(
	git ls-files -co --exclude-standard '*_test.go' | while read -r file; do
		if grep -q '^//go:build integration' "$file"; then echo "./$(dirname "$file")"; fi
	done | sort -u
)
if [ "${#packages[@]}" -eq 0 ]; then
	echo 'integration: no test has the build tag integration' >&2
	exit 1
fi
echo "integration: ${packages[*]}"
# One after the other (-p 1): each package runs a broker of its own. -v, for the
# figures that the suite prints.
exec "$go" test -tags integration -count 1 -p 1 -timeout 30m -v "${packages[@]}"
