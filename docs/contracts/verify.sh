#!/bin/sh
# Verifies a delivery of standard, bigcommerce, bunship or bunjang with openssl, to
# look into a single one: the comparison isn't in constant time, and the list of
# processes shows the key. The headers are "Name: value" lines, the secrets one a line.
#
#   sh verify.sh standard headers body secrets
set -eu
contract=$1 headers=$2 body=$3 secrets=$4

header() { sed -n "s/^$1: *//Ip" "$headers" | tr -d '\r' | head -n 1; }
refuse() { echo "$1" >&2; exit 1; }

case $contract in
standard | bigcommerce)
	timestamp=$(header webhook-timestamp)
	prefix=$(header webhook-id).$timestamp.
	given=$(header webhook-signature | tr ' ' '\n' | sed -n 's/^v1,//p')
	;;
bunship | bunjang)
	name=x-webhook-signature
	[ "$contract" = bunjang ] && name=x-bun-webhook-signature
	timestamp=$(header "$name" | tr ',' '\n' | sed -n 's/^t=//p')
	prefix=$timestamp.
	given=$(header "$name" | tr ',' '\n' | sed -n 's/^v1=//p')
	;;
*) refuse "no contract $contract" ;;
esac

case $timestamp in '' | *[!0-9]*) refuse 'no timestamp' ;; esac
age=$((${VERIFY_NOW:-$(date +%s)} - timestamp)) # VERIFY_NOW: to look into an old delivery
[ "$age" -le 300 ] && [ "$age" -ge -300 ] || refuse 'the timestamp is too far from now'

hex() { od -An -v -tx1 | tr -d ' \n'; }
while read -r secret || [ -n "$secret" ]; do
	case $contract in
	standard | bigcommerce)
		key=$(printf '%s' "${secret#whsec_}" | openssl base64 -d -A | hex)
		want=$({ printf '%s' "$prefix"; cat "$body"; } | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
		;;
	*)
		key=$(printf '%s' "$secret" | hex) # the whole text, prefix included
		want=$({ printf '%s' "$prefix"; cat "$body"; } | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | hex)
		;;
	esac
	for signature in $given; do
		if [ "$signature" = "$want" ]; then
			echo verified
			exit 0
		fi
	done
done <"$secrets"
refuse 'no signature matches'
