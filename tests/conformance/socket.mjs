// graphql-transport-ws: GRAPHQL_URL=http://127.0.0.1:8080/graphql node --test socket.mjs
// What the reference client meets when it behaves, and the close codes that a client meets when it does not.
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";

import { createClient } from "graphql-ws";
import WebSocket from "ws";

const url = process.env.GRAPHQL_URL.replace(/^http/, "ws");
const PROTOCOL = "graphql-transport-ws";
const operation = (query) => JSON.stringify({ id: "1", type: "subscribe", payload: { query } });
const INIT = JSON.stringify({ type: "connection_init" });
const CHANGES = operation("subscription { eventIngested { cursor } }");

/** Sends the messages at once, and returns the code that the socket is closed with. */
async function closeCode(messages, protocol = PROTOCOL) {
  const socket = protocol ? new WebSocket(url, protocol) : new WebSocket(url);
  socket.on("open", () => messages.forEach((message) => socket.send(message)));
  const [code] = await once(socket, "close");
  return code;
}

/** Everything that an operation brings. */
async function all(client, query, variables) {
  const results = [];
  for await (const result of client.iterate({ query, variables })) results.push(result);
  return results;
}

async function withClient(use) {
  const client = createClient({ url, webSocketImpl: WebSocket, retryAttempts: 0, lazyCloseTimeout: 1000 });
  try {
    await use(client);
  } finally {
    await client.dispose();
  }
}

for (const [what, messages, code] of [
  ["a message that is not JSON", ["nonsense"], 4400],
  ["a message of no known type", [JSON.stringify({ type: "hello" })], 4400],
  ["a binary message", [Buffer.from(INIT)], 4400],
  ["a subscription without an id", [INIT, JSON.stringify({ type: "subscribe", payload: { query: "{ a }" } })], 4400],
  ["an operation before connection_init", [operation("{ __typename }")], 4401],
  ["nothing at all", [], 4408],
  ["an id that is in use", [INIT, CHANGES, CHANGES], 4409],
  ["a second connection_init", [INIT, INIT], 4429],
]) {
  test(`${what} closes the socket with ${code}`, { timeout: 30_000 }, async () => {
    assert.equal(await closeCode(messages), code);
  });
}

test("no subprotocol closes the socket with 4406", { timeout: 30_000 }, async () => {
  assert.equal(await closeCode([], null), 4406);
});

test("an unknown subprotocol is refused", { timeout: 30_000 }, async () => {
  const socket = new WebSocket(url, "graphql-ws");
  const [error] = await once(socket, "error");
  assert.match(error.message, /400/);
});

test("queries are answered once", { timeout: 30_000 }, () =>
  withClient(async (client) => {
    const query = "query ($by: EventLookup!) { event(by: $by) { name } }";
    assert.deepEqual(await all(client, query, { by: { slug: "no-such-event" } }), [{ data: { event: null } }]);
  }));

test("a document that does not fit the schema is an error of its operation alone", { timeout: 30_000 }, () =>
  withClient(async (client) => {
    const refused = all(client, "{ nothing }");
    const answered = all(client, "{ __typename }");
    await assert.rejects(refused, (errors) => errors[0].extensions.code === "GRAPHQL_VALIDATION_FAILED");
    assert.deepEqual(await answered, [{ data: { __typename: "Query" } }]);
  }));

test("a subscription that is given up leaves the socket to the others", { timeout: 30_000 }, () =>
  withClient(async (client) => {
    let closed = false;
    client.on("closed", () => (closed = true));
    const changes = client.iterate({ query: "subscription { eventIngested { cursor } }" });
    assert.deepEqual(await all(client, "{ __typename }"), [{ data: { __typename: "Query" } }]);
    await changes.return();
    assert.deepEqual(await all(client, "{ __typename }"), [{ data: { __typename: "Query" } }]);
    assert.equal(closed, false);
  }));

test("pings are answered", { timeout: 30_000 }, async () => {
  const socket = new WebSocket(url, PROTOCOL);
  await once(socket, "open");
  socket.send(JSON.stringify({ type: "ping", payload: { number: 7 } }));
  const [message] = await once(socket, "message");
  assert.deepEqual(JSON.parse(message), { type: "pong", payload: { number: 7 } });
  socket.close();
});
