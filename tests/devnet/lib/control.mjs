// The network's own HTTP server, for people and tests. Not part of the AT Protocol, except the few calls that an
// AppView and a handle's own domain answer: here they are answered for every PDS.
import http from 'node:http'
import { once } from 'node:events'
import { createAccount } from './accounts.mjs'
import { passTime } from './clock.mjs'

const MAX_BODY = 1_000_000

const refusal = (status, message, error = 'InvalidRequest') =>
  Object.assign(new Error(message), { status, body: { error, message } })
const isUp = (url) => fetch(url, { signal: AbortSignal.timeout(2000) }).then((r) => r.ok, () => false)

// The profile that the real AppView would show, from the account's own record.
async function profile(network, actor) {
  for (const p of network.pds.values()) {
    const account = p.server && (await p.server.ctx.accountManager.getAccount(actor))
    if (!account) continue
    const { did, handle, createdAt } = account
    const params = new URLSearchParams({ repo: did, collection: 'app.bsky.actor.profile', rkey: 'self' })
    const response = await fetch(`${p.url}/xrpc/com.atproto.repo.getRecord?${params}`)
    const record = response.ok ? (await response.json()).value : undefined
    const blob = (b) => {
      const cid = b?.ref?.$link
      return cid && `${p.url}/xrpc/com.atproto.sync.getBlob?${new URLSearchParams({ did, cid })}`
    }
    return {
      did, handle,
      displayName: record?.displayName, description: record?.description,
      avatar: blob(record?.avatar), banner: blob(record?.banner),
      followersCount: 0, followsCount: 0, postsCount: 0,
      indexedAt: createdAt, createdAt, labels: [],
    }
  }
}

// Each answers JSON, or `{ text }` for plain text, or throws an error with a `status`.
const routes = (network) => ({
  'GET /': async () => network.describe(),
  'GET /health': async () => {
    const up = { control: network.ready, plc: await isUp(`${network.plcUrl}/_health`) }
    for (const p of network.pds.values()) up[p.conf.name] = await isUp(`${p.url}/xrpc/_health`)
    if (Object.values(up).every(Boolean)) return up
    throw Object.assign(new Error('not up'), { status: 503, body: up })
  },
  'GET /mail': async ({ query }) => network.mail.filter((m) => !query.get('to') || m.to === query.get('to')),
  'POST /accounts': async ({ body }) => {
    if (typeof body?.handle !== 'string') throw refusal(400, 'a body {"handle": "…", "pds"?: "…"} is needed')
    return createAccount(network, body)
  },
  'POST /virtual-hosts': async ({ body }) => {
    for (const [host, origin] of Object.entries(body ?? {})) {
      if (origin === null) network.virtualHosts.delete(host)
      else network.virtualHosts.set(host, origin)
    }
    return Object.fromEntries(network.virtualHosts)
  },
  'POST /pds/stop': async ({ query }) => {
    await network.stopPds(query.get('name'))
    return network.describe().pds
  },
  'POST /pds/start': async ({ query }) => {
    await network.startPds(query.get('name'))
    return network.describe().pds
  },
  'POST /clock/pass': async ({ query }) => ({ ahead: passTime(Number(query.get('seconds'))) }),
  'POST /relay/drop': async () => ({ dropped: network.relay.drop() }),

  'GET /.well-known/did.json': async () => {
    const { host } = new URL(network.controlUrl)
    return {
      '@context': ['https://www.w3.org/ns/did/v1'],
      id: `did:web:${encodeURIComponent(host)}`,
      service: [{ id: '#bsky_appview', type: 'BskyAppView', serviceEndpoint: network.controlUrl }],
    }
  },
  // by the Host header, as on a handle's own domain
  'GET /.well-known/atproto-did': async ({ host }) => {
    const did = await network.resolveHandle(host)
    if (!did) throw refusal(404, 'User not found', 'NotFound')
    return { text: did }
  },
  'GET /xrpc/com.atproto.identity.resolveHandle': async ({ query }) => {
    const did = await network.resolveHandle(String(query.get('handle')).toLowerCase())
    if (!did) throw refusal(400, 'Unable to resolve handle', 'HandleNotFound')
    return { did }
  },
  'GET /xrpc/app.bsky.actor.getProfile': async ({ query }) => {
    const found = await profile(network, query.get('actor'))
    if (!found) throw refusal(400, 'Profile not found')
    return found
  },
  'GET /xrpc/app.bsky.actor.getProfiles': async ({ query }) => {
    const all = await Promise.all(query.getAll('actors').map((actor) => profile(network, actor)))
    return { profiles: all.filter(Boolean) }
  },
})

async function readJson(req) {
  let raw = ''
  for await (const chunk of req) {
    raw += chunk
    if (raw.length > MAX_BODY) throw refusal(413, 'the body is too long')
  }
  if (!raw) return undefined
  try {
    return JSON.parse(raw)
  } catch {
    throw refusal(400, 'the body is not JSON')
  }
}

/** Listens on `port`; the routes are those of README.md. */
export async function startControl(network, { port }) {
  const table = routes(network)
  const answer = async (req) => {
    const { pathname, searchParams: query } = new URL(req.url, 'http://localhost')
    const route = table[`${req.method} ${pathname}`]
    if (!route && pathname.startsWith('/xrpc/')) throw refusal(501, pathname, 'MethodNotImplemented')
    if (!route) throw refusal(404, pathname, 'NotFound')
    const host = (req.headers.host ?? '').replace(/:\d+$/, '').toLowerCase()
    return route({ query, host, body: req.method === 'POST' ? await readJson(req) : undefined })
  }
  const server = http.createServer(async (req, res) => {
    let status = 200
    let body
    try {
      body = await answer(req)
    } catch (err) {
      status = err.status ?? 500
      body = err.body ?? { error: status === 500 ? 'InternalServerError' : 'InvalidRequest', message: err.message }
    }
    const type = typeof body.text === 'string' ? 'text/plain' : 'application/json'
    res.writeHead(status, { 'content-type': type, 'access-control-allow-origin': '*' })
    res.end(type === 'text/plain' ? body.text : JSON.stringify(body))
  })
  server.listen(port)
  await once(server, 'listening')
  return server
}
