#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (10s). Ten tries make what it
# finds smaller, not the default minute: each of those would eat up FUZZTIME.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${GO:-go}

git ls-files -co --exclude-standard '*_test.go' | sort | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "fuzz: $(dirname "$file") $target"
		"$go" test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 10x </dev/null
	done
done
