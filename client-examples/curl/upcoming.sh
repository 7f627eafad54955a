#!/usr/bin/env bash
# Prints a page of the events to come: upcoming.sh [COUNT [AFTER]]
# AFTER is the `endCursor` of the page before.
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations

curl --silent --show-error --fail-with-body --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
  --header 'Accept: application/graphql-response+json' \
  --data-urlencode "query@$operations/UpcomingEvents.graphql" \
  --data-urlencode "variables={\"from\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"first\": ${1:-10}, \"after\": ${2:+\"}${2:-null}${2:+\"}}"
echo
