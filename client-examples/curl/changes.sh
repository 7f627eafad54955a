#!/usr/bin/env bash
# Looks for changes again and again, and prints each page that has some as a line of JSON: changes.sh [CURSOR_FILE]
# The file keeps the position: started again, it goes on from there. Without one it starts with the oldest change kept.
#
#   INTERVAL  seconds between two looks, 10 if not given
set -euo pipefail
operations=$(dirname "${BASH_SOURCE[0]}")/../operations
file=${1:-changes.cursor}
cursor=$(cat "$file" 2>/dev/null || true)

while true; do
  page=$(curl --silent --show-error --get "${GATEWAY:-http://127.0.0.1:8080}/graphql" \
    --header 'Accept: application/graphql-response+json' \
    --data-urlencode "query@$operations/EventChanges.graphql" \
    --data-urlencode "variables={\"first\": 100, \"after\": ${cursor:+\"}${cursor:-null}${cursor:+\"}}") || page=
  # Texts of events cannot be taken for this: quotation marks inside of them are escaped.
  end=$(sed -n 's/.*"endCursor":"\([^"]*\)".*/\1/p' <<<"$page")
  if [[ $page == *'"errors":'* ]]; then
    printf '%s\n' "$page" >&2 # with the reason CURSOR_EXPIRED: list the events anew, and begin with an empty file
    exit 1
  elif [[ -n $end ]]; then
    [[ $page == *'"changes":[]'* ]] || printf '%s\n' "$page"
    printf '%s\n' "$end" >"$file.new" && mv "$file.new" "$file"
    cursor=$end
    [[ $page != *'"hasMore":true'* ]] || continue
  fi # no answer: the gateway is restarting
  sleep "${INTERVAL:-10}"
done
