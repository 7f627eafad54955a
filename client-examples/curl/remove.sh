#!/usr/bin/env bash
# Takes away an event of a web site, or an answer: remove.sh events|rsvps ID
# ID is the `sourceId` that the answer to it had. Needs GATEWAY_KEY, as bring.sh does.
set -euo pipefail

curl --silent --show-error --fail-with-body --request DELETE --get \
  "${GATEWAY:-http://127.0.0.1:8080}/api/integration/${1:?events or rsvps is missing}" \
  --config <(printf 'header = "Authorization: Bearer %s"\n' "${GATEWAY_KEY:?GATEWAY_KEY is missing}") \
  --data-urlencode "sourceType=web" \
  --data-urlencode "sourceId=${2:?ID is missing}"
echo
