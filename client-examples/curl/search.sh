#!/usr/bin/env bash
# Prints the newest events in whose text every word, or one that begins with it, is found: search.sh WORDS…
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations

# The words as a JSON string.
words=${*//\\/\\\\}
words=\"${words//\"/\\\"}\"

curl --silent --show-error --fail-with-body --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
  --header 'Accept: application/graphql-response+json' \
  --data-urlencode "query@$operations/SearchEvents.graphql" \
  --data-urlencode "variables={\"text\": ${words//[[:cntrl:]]/ }}"
echo
