#!/usr/bin/env bash
# Fetches libchdb, the ClickHouse of development and tests, from its npm package
# into the path given. Without npm, or where there is no package for the platform,
# it says so and succeeds: all but the ledger works without it. With
# POSTHORN_REQUIRE_CLICKHOUSE=1 that is a failure.
#
#   scripts/chdb.sh .cache/chdb/VERSION/libchdb.so VERSION
set -euo pipefail
target=$1
version=$2

without() {
	if [ "${POSTHORN_REQUIRE_CLICKHOUSE:-}" = 1 ]; then
		echo "chdb: $1" >&2
		exit 1
	fi
	echo "chdb: $1; the ledger in ClickHouse stays off"
	exit 0
}

[ -e "$target" ] && exit 0
# The checksum is that of the package that the tests ran with; npm checks the others
# against their registry's word alone.
checksum=
case "$(uname -s)-$(uname -m)" in
	Linux-x86_64)
		package=@chdb/lib-linux-x64-gnu
		if [ "$version" = 26.7.3-stable.1 ]; then
			checksum=XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==
		fi
		;;
	Linux-aarch64 | Linux-arm64) package=@chdb/lib-linux-arm64-gnu ;;
	Darwin-x86_64) package=@chdb/lib-darwin-x64 ;;
	Darwin-arm64) package=@chdb/lib-darwin-arm64 ;;
	*) without "there is no libchdb for $(uname -s) on $(uname -m)" ;;
esac
command -v npm >/dev/null || without 'npm, which fetches libchdb, is not installed'

# Beside the target, so that the last step is a rename: there is a whole file or none.
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "chdb: fetching $package $version (180 MB)"
if ! (cd "$work" && npm pack --silent "$package@$version" >/dev/null); then
	without "npm pack $package@$version failed"
fi
if [ -n "$checksum" ] && ! (cd "$work" && node -e '
	const sum = require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1]));
	process.exit(sum.digest("base64") === process.argv[2] ? 0 : 1)' ./*.tgz "$checksum"); then
	echo "chdb: $package $version has another checksum than it had" >&2
	exit 1
fi
(cd "$work" && tar -xzf ./*.tgz)
library=$(find "$work" -name 'libchdb.*' -type f | head -n 1)
[ -n "$library" ] || without "$package@$version holds no libchdb"
mv "$library" "$target"
