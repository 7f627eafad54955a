#!/usr/bin/env bash
# Prints the events to come around a point: near.sh LATITUDE LONGITUDE [METRES]
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations
point="\"latitude\": ${1:?LATITUDE is missing}, \"longitude\": ${2:?LONGITUDE is missing}, \"radiusMeters\": ${3:-10000}"

curl --silent --show-error --fail-with-body --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
  --header 'Accept: application/graphql-response+json' \
  --data-urlencode "query@$operations/EventsNear.graphql" \
  --data-urlencode "variables={$point, \"from\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"}"
echo
