#!/usr/bin/env bash
# Prints what could not be applied, and how often what: failures.sh [STAGE]
# Needs an administrator's key: export GATEWAY_KEY=$(openmeet-gateway keys create "my name" --admin)
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations
filter=${1:+"{\"stage\": [\"${1^^}\"]}"}

# The key is read from a file that nobody else sees: a command line is shown to every user of the machine.
curl --silent --show-error --fail-with-body --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
  --config <(printf 'header = "Authorization: Bearer %s"\n' "${GATEWAY_KEY:?GATEWAY_KEY is missing}") \
  --header 'Accept: application/graphql-response+json' \
  --data-urlencode "query@$operations/IngestFailures.graphql" \
  --data-urlencode "variables={\"filter\": ${filter:-null}}"
echo
