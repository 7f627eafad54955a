// Prints the upcoming events and then every change of an event, as JSON lines, for as long as it runs.
//
//   GATEWAY      where the gateway is, http://127.0.0.1:8080 if not given
//   CURSOR_FILE  where the position in the stream is kept, ./feed.cursor if not given
//
// Whatever happens to the connection, the gateway or this program: started again it goes on behind the last change that
// it printed, and prints each once. The one exception is a crash between printing a change and storing its cursor, which
// prints that change again; its cursor tells.

import { setTimeout as sleep } from "node:timers/promises";

import { Bookmark } from "./bookmark.js";
import { Failure, follow, query } from "./gateway.js";
import {
  EndOfChangesDocument,
  type EndOfChangesQuery,
  UpcomingEventsDocument,
  type UpcomingEventsQuery,
} from "./generated/graphql.js";

/** Milliseconds to wait before the first try to come back, and at most. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [250, 30_000];

const gateway = new URL(process.env["GATEWAY"] ?? "http://127.0.0.1:8080");
const bookmark = new Bookmark(process.env["CURSOR_FILE"] ?? "feed.cursor");
const stopped = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stopped.abort());

let failures = 0;
while (!stopped.signal.aborted) {
  try {
    const start = bookmark.cursor ?? (await begin());
    await follow(
      gateway,
      () => bookmark.cursor ?? start,
      (change) => {
        if (change.cursor === bookmark.cursor) return; // "at least once" is what the gateway promises
        print({ kind: "change", ...change });
        bookmark.move(change.cursor);
        failures = 0;
      },
      stopped.signal,
    );
  } catch (problem) {
    if (!(problem instanceof Failure)) throw problem;
    if (problem.cursorIsGone) bookmark.forget();
    else if (!problem.passes) throw problem;
    console.error(`${problem.message}; trying again`);
    await pause(failures++);
  }
}

/**
 * Prints what is there now, and returns the cursor from which on changes have to be followed. The cursor is taken first:
 * what changes meanwhile is printed as a change too, rather than not at all.
 */
async function begin(): Promise<string> {
  const { serviceInfo }: EndOfChangesQuery = await query(gateway, EndOfChangesDocument, {});
  const cursor = serviceInfo?.newestCursor;
  if (!cursor) throw new Failure("the change log cannot be read", true);
  const from = new Date().toISOString();
  let after: string | null = null;
  do {
    const { events }: UpcomingEventsQuery = await query(gateway, UpcomingEventsDocument, { from, first: 50, after });
    if (!events) throw new Failure("the events cannot be read", true);
    for (const event of events.nodes) print({ kind: "upcoming", ...event });
    after = events.pageInfo.hasNextPage ? (events.pageInfo.endCursor ?? null) : null;
  } while (after !== null);
  bookmark.move(cursor);
  return cursor;
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Longer after each failure, and never the same for two clients: they would all come back at once. */
async function pause(failures: number): Promise<void> {
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
  try {
    await sleep(longest * (0.5 + Math.random() / 2), undefined, { signal: stopped.signal });
  } catch {
    // Stopped: the loop sees it.
  }
}
