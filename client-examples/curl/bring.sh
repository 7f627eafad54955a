#!/usr/bin/env bash
# Brings an event of a web site, and what people answer to it: bring.sh ID NAME START [DID ANSWER]…
# ID is what the site calls the event: brought again, it is updated. ANSWER is going, interested or notgoing.
# Needs a key for this source: export GATEWAY_KEY=$(openmeet-gateway keys create "my scraper" --source web)
set -euo pipefail
api=${GATEWAY:-http://127.0.0.1:8080}/api/integration

# A JSON string.
text() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//[[:cntrl:]]/ }"
}

# Posts what it reads. What broke off is sent again under the same name, and answered as it was the first time.
# The key is read from a file that nobody else sees: a command line is shown to every user of the machine.
post() {
  curl --silent --show-error --fail-with-body --retry 3 "$api/$1" \
    --config <(printf 'header = "Authorization: Bearer %s"\n' "${GATEWAY_KEY:?GATEWAY_KEY is missing}") \
    --header "Idempotency-Key: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" \
    --header "Content-Type: ${2:-application/json}" \
    --data-binary @-
  echo
}

id=$(text "${1:?ID is missing}")
post events <<EVENT
{
  "name": $(text "${2:?NAME is missing}"),
  "startDate": $(text "${3:?START is missing}"),
  "source": { "type": "web", "id": $id }
}
EVENT
shift 3

# One answer a line.
answers=
while (($# > 0)); do
  printf -v answer '{ "eventSourceType": "web", "eventSourceId": %s, "userDid": %s, "status": %s }\n' \
    "$id" "$(text "$1")" "$(text "${2:?ANSWER is missing}")"
  answers+=$answer
  shift 2
done
[[ -z $answers ]] || post rsvps:batch application/x-ndjson <<<"$answers"
