// Jetstream's v1 dialect of the merged stream: JSON messages, chosen by collection, author and size.
//   wantedCollections   up to 100 NSIDs or prefixes ("app.bsky.*"); account and identity events come regardless
//   wantedDids          up to 10,000; they gate account and identity events too
//   maxMessageSizeBytes longer messages are left out; 0 or less: no limit
//   cursor              unix microseconds, inclusive; one that lies in the future means live only
//   requireHello        nothing is sent until the first options_update
//   compress            refused: the compression dictionary is not ours to ship
// A client message {"type": "options_update", "payload": {wantedCollections, wantedDids, maxMessageSizeBytes}}
// replaces all three options; a bad one closes the socket. There is no #sync in this dialect.
import { decodeAll } from '@atproto/lex-cbor'
import { lexToJson } from '@atproto/lex-json'
import { readCar } from '@atproto/repo'

const MAX_COLLECTIONS = 100
const MAX_DIDS = 10_000
const NSID = /^[a-z](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+\.[a-zA-Z][a-zA-Z0-9]*$/i
const PREFIX = /^[a-z0-9-]+(?:\.[a-z0-9-]+)*\.\*$/i
const DID = /^did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]$/

export class Jetstream {
  static MAX_MESSAGE_BYTES = 10_000_000

  #events = [] // { us, did, collection, text }
  #clients = new Set()
  #us = 0

  /** Takes one frame of the merged stream. */
  async push(type, body) {
    const { did, seq, time } = body
    if (type === '#account') {
      const { active, status } = body
      this.#emit(did, 'account', { account: { active, did, seq, ...(status && { status }), time } })
    }
    if (type === '#identity') {
      const { handle } = body
      this.#emit(did, 'identity', { identity: { did, ...(handle && { handle }), seq, time } })
    }
    if (type === '#commit') await this.#pushCommit(body)
  }

  async #pushCommit({ repo, rev, ops, blocks }) {
    const car = await readCar(blocks)
    for (const op of ops) {
      const [collection, rkey] = op.path.split('/', 2)
      const commit = { rev, operation: op.action, collection, rkey }
      if (op.cid) {
        const [record] = [...decodeAll(car.blocks.get(op.cid))]
        Object.assign(commit, { record: lexToJson(record), cid: op.cid.toString() })
      }
      this.#emit(repo, 'commit', { commit }, collection)
    }
  }

  #emit(did, kind, part, collection) {
    this.#us = Math.max(this.#us + 1, Date.now() * 1000) // strictly rising, because it is the cursor
    const text = JSON.stringify({ did, time_us: this.#us, kind, ...part })
    this.#events.push({ us: this.#us, did, collection, text })
    for (const send of this.#clients) send()
  }

  /** Reads a subscriber's options: gives what to do with its socket, or throws what is wrong with them. */
  accept(query, headers) {
    if (query.get('compress') === 'true' || /zstd/.test(headers['socket-encoding'] ?? '')) {
      throw new Error('compression is not offered here')
    }
    let wants = filter({
      wantedCollections: query.getAll('wantedCollections'),
      wantedDids: query.getAll('wantedDids'),
      maxMessageSizeBytes: query.get('maxMessageSizeBytes'),
    })
    const cursor = query.get('cursor')
    if (cursor !== null && !/^\d+$/.test(cursor)) throw new Error('invalid cursor')
    let ready = query.get('requireHello') !== 'true'

    return (ws) => {
      let at = cursor === null ? -1 : this.#events.findIndex((e) => e.us >= Number(cursor))
      if (at < 0) at = this.#events.length
      const send = () => {
        for (; ready && at < this.#events.length; at++) if (wants(this.#events[at])) ws.send(this.#events[at].text)
      }
      ws.on('message', (data) => {
        try {
          const { type, payload } = JSON.parse(String(data))
          if (type !== 'options_update') return
          wants = filter(payload ?? {})
          ready = true
          send()
        } catch (err) {
          ws.close(1008, err.message.slice(0, 100))
        }
      })
      this.#clients.add(send)
      ws.on('close', () => this.#clients.delete(send))
      send()
    }
  }
}

// Says of an event whether the subscriber wants it; throws when the options are not valid.
function filter({ wantedCollections, wantedDids, maxMessageSizeBytes }) {
  const collections = wantedCollections ?? []
  const dids = new Set(wantedDids ?? [])
  if (collections.length > MAX_COLLECTIONS) throw new Error(`too many wanted collections: ${collections.length}`)
  if (dids.size > MAX_DIDS) throw new Error(`too many wanted DIDs: ${dids.size}`)
  for (const c of collections) if (!NSID.test(c) && !PREFIX.test(c)) throw new Error(`invalid collection: ${c}`)
  for (const did of dids) if (!DID.test(did)) throw new Error(`invalid DID: ${did}`)
  const exact = new Set(collections.filter((c) => !c.endsWith('.*')))
  const prefixes = collections.filter((c) => c.endsWith('.*')).map((c) => c.slice(0, -1))
  const max = Math.max(0, Number(maxMessageSizeBytes ?? 0))
  if (Number.isNaN(max)) throw new Error('invalid maxMessageSizeBytes')

  return ({ did, collection, text }) =>
    (!dids.size || dids.has(did)) &&
    (!max || Buffer.byteLength(text) <= max) &&
    (!collection || !collections.length || exact.has(collection) || prefixes.some((p) => collection.startsWith(p)))
}
