#!/usr/bin/env bash
# Prints changes as they happen, as server-sent events: subscribe.sh [CURSOR]
# With the `cursor` of the last change that was seen, everything missed comes first. To stop: Ctrl-C.
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations

exec curl --silent --show-error --fail-with-body --no-buffer --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
  --header 'Accept: text/event-stream' \
  --data-urlencode "query@$operations/EventIngested.graphql" \
  --data-urlencode "variables={\"after\": ${1:+\"}${1:-null}${1:+\"}}"
