#!/usr/bin/env bash
# Runs the test of each promise that the three reference platforms make and
# prints a line for each:
#
#   bunship 7 pass TestBunship_07_…
#
# Others than pass: fail, skip (what it needs isn't on this machine), missing (no
# test holds it) and waits (for the web page, which there isn't yet). Fails
# unless all but the last pass.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"${GO:-go}" test -tags synctests -count 1 -timeout 15m -v -run '^Test(Bunship|Bunjang|BigCommerce)_[0-9][0-9]_' ./internal/app >"$log" 2>&1 || status=$?

# platform, name in the tests, number of promises
awk -v status="$status" '
	/^--- (PASS|FAIL|SKIP): Test(Bunship|Bunjang|BigCommerce)_/ {
		split($3, part, "_")
		result[substr(part[1], 5) " " part[2] + 0] = tolower(substr($2, 1, 4)) " " $3
	}
	function tell(platform, name, promises,    i, key, line) {
		for (i = 1; i <= promises; i++) {
			key = name " " i
			line = key in result ? result[key] : "missing"
			if (line == "missing" && key == "Bunjang 10") line = "waits (the web page)"
			else if (line !~ /^pass /) bad++
			print platform, i, line
		}
	}
	END {
		tell("bunship", "Bunship", 12)
		tell("bunjang", "Bunjang", 10)
		tell("bigcommerce", "BigCommerce", 8)
		exit bad > 0 || status > 0
	}' "$log" || {
	if [ "$status" -ne 0 ]; then
		echo
		grep -vE '^=== (RUN|PAUSE|CONT)|^--- PASS' "$log" || true
	fi
	exit 1
}
