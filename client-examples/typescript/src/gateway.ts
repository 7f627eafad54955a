// The gateway as this program uses it: queries over HTTP, changes over a WebSocket.

import { createClient } from "graphql-ws";
import WebSocket from "ws";

import {
  EventIngestedDocument,
  type EventIngestedSubscription,
  type TypedDocumentString,
} from "./generated/graphql.js";

export type Change = EventIngestedSubscription["eventIngested"];

/** What failed, and whether the same may go well a little later. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly passes: boolean,
    /** The gateway's `extensions.reason` or, where there is none, `extensions.code`. */
    readonly reason?: string,
  ) {
    super(message);
  }

  /** The stored cursor is of no use any more: what it led to has been deleted, or it is from another database. */
  get cursorIsGone(): boolean {
    return this.reason === "CURSOR_EXPIRED" || this.reason === "CURSOR_INVALID";
  }
}

/** Codes of errors that are nobody's fault. */
const PASSING = ["INTERNAL", "RATE_LIMITED", "SERVICE_UNAVAILABLE", "TIMEOUT", "UPSTREAM_UNAVAILABLE"];
/** Close codes that say that this program, not the moment, is at fault: trying again changes nothing. */
const OUR_FAULT = [4400, 4401, 4403, 4404, 4406, 4409, 4429];
/** Milliseconds between signs of life on a quiet socket, and to wait for an answer to anything. */
const [KEEP_ALIVE, PATIENCE] = [10_000, 5_000];

class Socket extends WebSocket {
  constructor(url: string, protocols: string | string[]) {
    super(url, protocols, { handshakeTimeout: PATIENCE });
  }
}

interface GraphQlError {
  readonly message: string;
  readonly extensions?: { readonly code?: unknown; readonly reason?: unknown } | undefined;
}

interface Answer<Result> {
  readonly data?: Result | null | undefined;
  readonly errors?: readonly GraphQlError[] | undefined;
}

/** The data of one query. */
export async function query<Result, Variables>(
  gateway: URL,
  document: TypedDocumentString<Result, Variables>,
  variables: Variables,
): Promise<Result> {
  let answer: Answer<Result>;
  try {
    const response = await fetch(new URL("graphql", gateway), {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/graphql-response+json" },
      body: JSON.stringify({ query: document.toString(), variables }),
      signal: AbortSignal.timeout(30_000),
    });
    answer = (await response.json()) as Answer<Result>;
  } catch (problem) {
    // Nobody answers, or somebody who is not the gateway: a proxy in front of one that restarts.
    throw new Failure(`the gateway does not answer: ${said(problem)}`, true);
  }
  return data(answer);
}

/**
 * Hands over every change after a cursor, until the connection or the subscription ends; it never just returns, except
 * after `signal`.
 *
 * `after` is asked whenever the subscription is sent: graphql-ws may send it once more by itself, on a new socket, and
 * what it was the first time would bring changes a second time. For the same reason `take` has to be done with a change
 * when it returns.
 */
export async function follow(
  gateway: URL,
  after: () => string,
  take: (change: Change) => void,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  const url = new URL("graphql", gateway);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  let unanswered: NodeJS.Timeout | undefined;
  const client = createClient({
    url: url.href,
    webSocketImpl: Socket,
    // Coming back is the caller's task, who knows what failed.
    retryAttempts: 0,
    connectionAckWaitTimeout: PATIENCE,
    keepAlive: KEEP_ALIVE,
    on: {
      // A connection that breaks without a word says nothing for hours otherwise.
      ping: (received) => {
        if (!received) unanswered = setTimeout(() => client.terminate(), PATIENCE);
      },
      pong: (received) => {
        if (received) clearTimeout(unanswered);
      },
      closed: () => clearTimeout(unanswered),
    },
  });
  const variables = {
    get after() {
      return after();
    },
  };
  let stop = () => {};
  let failed = false;
  try {
    await new Promise<void>((resolve, reject) => {
      stop = client.subscribe<EventIngestedSubscription>(
        { query: EventIngestedDocument.toString(), variables },
        {
          next: (result) => {
            if (failed || signal.aborted) return;
            try {
              take(data(result).eventIngested);
            } catch (problem) {
              failed = true;
              reject(problem);
              stop();
            }
          },
          error: (problem) => reject(ended(problem)),
          complete: () => (signal.aborted ? resolve() : reject(new Failure("the subscription ended", true))),
        },
      );
      signal.addEventListener("abort", stop);
    });
  } finally {
    signal.removeEventListener("abort", stop);
    clearTimeout(unanswered);
    await client.dispose();
  }
}

function data<Result>(answer: Answer<Result>): Result {
  const [error] = answer.errors ?? [];
  if (error) throw told(error);
  if (answer.data === undefined || answer.data === null) throw new Failure("the answer has no data", true);
  return answer.data;
}

function told({ message, extensions }: GraphQlError): Failure {
  const code = String(extensions?.code);
  return new Failure(message, PASSING.includes(code), String(extensions?.reason ?? code));
}

/** Why a subscription ended: errors of the gateway, a closed socket, or a socket that did not open. */
function ended(problem: unknown): Failure {
  if (Array.isArray(problem)) return told(problem[0] as GraphQlError);
  if (typeof problem === "object" && problem !== null && "code" in problem && "reason" in problem) {
    const { code, reason } = problem;
    return new Failure(`the socket was closed with ${code} ${reason}`, !OUR_FAULT.includes(Number(code)));
  }
  return new Failure(`the socket failed: ${said(problem)}`, true);
}

function said(problem: unknown): string {
  const { message, cause } = problem as { message?: unknown; cause?: unknown };
  return cause === undefined ? String(message ?? problem) : `${String(message)}: ${said(cause)}`;
}
