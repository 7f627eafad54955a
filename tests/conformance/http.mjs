// GraphQL over HTTP: GRAPHQL_URL=http://127.0.0.1:8080/graphql node http.mjs
// Runs the audits of graphql-http and prints each that does not pass; of MUST, SHOULD and MAY alike none may fail.
import { auditServer } from "graphql-http";

const url = process.env.GRAPHQL_URL;
const results = await auditServer({ url, fetchFn: fetch });
let failed = 0;
for (const { status, name, reason } of results) {
  if (status !== "ok") {
    failed += 1;
    console.log(`${status}: ${name}: ${reason}`);
  }
}
console.log(`${results.length} audits, ${failed} failed`);
process.exitCode = failed > 0 || results.length === 0 ? 1 : 0;
