// The relay stand-in: one stream for all PDSes. No published package is a relay or a Jetstream server. It verifies
// nothing, keeps everything in memory and starts anew with each run.
//   ws://…/xrpc/com.atproto.sync.subscribeRepos?cursor=N   the PDSes' frames with one sequence of its own
//   ws://…/subscribe?…                                     the same as Jetstream's v1 JSON: jetstream.mjs
//   http://…/xrpc/com.atproto.sync.{listRepos,getRepoStatus,listReposByCollection}
import http from 'node:http'
import { once } from 'node:events'
import { WebSocketServer } from 'ws'
import { decodeAll, encode } from '@atproto/lex-cbor'
import { Jetstream } from './jetstream.mjs'

/** `drop()` cuts every open stream as a broken network would, and says how many there were. */
export async function startRelay(network, { port }) {
  const firehose = new Firehose()
  const jetstream = new Jetstream()
  const onFrame = async (data) => {
    const [head, body] = [...decodeAll(new Uint8Array(data))]
    if (head.op !== 1 || typeof body.seq !== 'number') return
    const seq = firehose.push(head, body)
    await jetstream.push(head.t, { ...body, seq })
  }
  const upstreams = [...network.pds.values()].map((p) => follow(p.conf.port, onFrame))

  const server = http.createServer(async (req, res) => {
    const url = new URL(req.url, 'http://localhost')
    const [status, body] = await answer(network, url)
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  const sockets = new WebSocketServer({ noServer: true, maxPayload: Jetstream.MAX_MESSAGE_BYTES })
  server.on('upgrade', (req, socket, head) => {
    const url = new URL(req.url, 'http://localhost')
    const refuse = (status, why) =>
      socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n${why}\n`)
    let open
    if (url.pathname === '/xrpc/com.atproto.sync.subscribeRepos') open = (ws) => firehose.open(ws, url.searchParams)
    if (url.pathname === '/subscribe') {
      try {
        open = jetstream.accept(url.searchParams, req.headers)
      } catch (err) {
        return refuse('400 Bad Request', err.message)
      }
    }
    if (!open) return refuse('404 Not Found', 'there is no such stream')
    sockets.handleUpgrade(req, socket, head, (ws) => {
      ws.on('error', () => {}) // a broken client closes, and that is all there is to know
      open(ws)
    })
  })
  server.listen(port)
  await once(server, 'listening')

  const drop = () => {
    const open = [...sockets.clients]
    for (const ws of open) ws.terminate()
    return open.length
  }
  const close = () => {
    for (const upstream of upstreams) upstream.close()
    drop()
    server.close()
    server.closeAllConnections()
  }
  return { drop, close }
}

// The merged stream. Its sequence starts at 1 with each run, and all of it can be replayed.
class Firehose {
  #frames = [] // the frame of sequence N at N - 1
  #clients = new Set()

  push(head, body) {
    const seq = this.#frames.length + 1
    const frame = Buffer.concat([encode(head), encode({ ...body, seq })])
    this.#frames.push(frame)
    for (const ws of this.#clients) ws.send(frame)
    return seq
  }

  open(ws, query) {
    const cursor = query.has('cursor') ? Number(query.get('cursor')) : undefined
    if (cursor > this.#frames.length) {
      const error = { error: 'FutureCursor', message: 'Cursor in the future.' }
      ws.send(Buffer.concat([encode({ op: -1 }), encode(error)]))
      return ws.close(1008)
    }
    if (cursor !== undefined) for (const frame of this.#frames.slice(cursor)) ws.send(frame)
    this.#clients.add(ws)
    ws.on('close', () => this.#clients.delete(ws))
  }
}

// One socket to a PDS: from its beginning, and after a break from the last sequence seen. Frames are handled in order.
function follow(port, onFrame) {
  let cursor = 0
  let ws
  let closing = false
  let queue = Promise.resolve()
  const connect = () => {
    if (closing) return
    ws = new WebSocket(`ws://127.0.0.1:${port}/xrpc/com.atproto.sync.subscribeRepos?cursor=${cursor}`)
    ws.binaryType = 'arraybuffer'
    ws.onmessage = ({ data }) => {
      const body = [...decodeAll(new Uint8Array(data))][1]
      if (body.seq) cursor = body.seq
      queue = queue.then(() => onFrame(data)).catch((err) => console.error('devnet: relay:', err))
    }
    ws.onerror = () => {}
    ws.onclose = () => setTimeout(connect, 250).unref()
  }
  connect()
  return {
    close: () => {
      closing = true
      ws.close()
    },
  }
}

async function answer(network, url) {
  const query = url.searchParams
  switch (url.pathname) {
    case '/xrpc/_health':
      return [200, { version: 'devnet-relay' }]
    case '/xrpc/com.atproto.sync.listRepos':
      return [200, { repos: (await repos(network)).map(({ p, ...repo }) => repo) }]
    case '/xrpc/com.atproto.sync.getRepoStatus': {
      for (const p of network.pds.values()) {
        const status = await ask(p, 'com.atproto.sync.getRepoStatus', { did: query.get('did') })
        if (status) return [200, status]
      }
      return [400, { error: 'RepoNotFound' }]
    }
    case '/xrpc/com.atproto.sync.listReposByCollection': {
      const found = []
      for (const { did, p } of await repos(network)) {
        const repo = await ask(p, 'com.atproto.repo.describeRepo', { repo: did })
        if (repo?.collections?.includes(query.get('collection'))) found.push({ did })
      }
      return [200, { repos: found }]
    }
    default:
      return [404, { error: 'NotFound' }]
  }
}

async function ask(p, nsid, params) {
  const response = await fetch(`${p.url}/xrpc/${nsid}?${new URLSearchParams(params)}`).catch(() => undefined)
  return response?.ok ? response.json() : undefined
}

async function repos(network) {
  const each = [...network.pds.values()].map(async (p) => {
    const listed = await ask(p, 'com.atproto.sync.listRepos', { limit: '1000' })
    return (listed?.repos ?? []).map((repo) => ({ ...repo, p }))
  })
  return (await Promise.all(each)).flat()
}
