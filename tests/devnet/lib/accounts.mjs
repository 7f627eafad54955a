// Accounts of the network: those of the config, and those that tests ask for.
import fs from 'node:fs'
import path from 'node:path'
import { Secp256k1Keypair } from '@atproto/crypto'

async function call(url, nsid, body, token) {
  const response = await fetch(`${url}/xrpc/${nsid}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  })
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  throw Object.assign(new Error(`${nsid}: ${response.status} ${JSON.stringify(answer)}`), {
    status: response.status,
    body: answer,
  })
}

/** Makes an account; the PDS follows from the handle unless named. Refusals carry the PDS's `status` and `body`. */
export async function createAccount(network, { handle, pds, password, email }) {
  const p = pds === undefined ? network.pdsForHandle(String(handle)) : network.pds.get(pds)
  if (!p?.server) throw Object.assign(new Error(`no running PDS for ${pds ?? handle}`), { status: 400 })
  password ??= `pw-${handle}`
  email ??= `${handle.replaceAll('.', '-')}@mail.atnet.internal`
  const made = await call(p.url, 'com.atproto.server.createAccount', { handle, email, password })
  const { did, accessJwt, refreshJwt } = made
  network.accounts.push({ handle, did, password, pds: p.conf.name, pdsUrl: p.url })
  return { handle, did, password, pds: p.conf.name, pdsUrl: p.url, accessJwt, refreshJwt }
}

/** Makes the accounts of the config that the data directory doesn't hold yet. */
export async function seedAccounts(network, { accounts, secret, lexicons }) {
  for (const a of accounts) {
    const p = network.pds.get(a.pds)
    const known = await p.server.ctx.accountManager.getAccount(a.handle, { includeDeactivated: true })
    let did = known?.did
    let token
    if (did) {
      const password = a.password ?? `pw-${a.handle}`
      network.accounts.push({ handle: a.handle, did, password, pds: a.pds, pdsUrl: p.url })
    } else {
      const key = secret(`signing:${a.handle}`)
      ;({ did, accessJwt: token } = await withSigningKey(key, () => createAccount(network, a)))
    }
    if (!a.lexiconAuthority) continue
    network.lexiconAuthority = did
    // read at each resolution
    for (const other of network.pds.values()) other.server.ctx.cfg.lexicon.didAuthority = did
    if (token) await publish(lexicons, p.url, did, token)
  }
}

// The PDS makes a random signing key for each account; one from the seed gives the same DID in every run. Only while
// nothing else makes accounts, or two would get the same key.
async function withSigningKey(hex, make) {
  const create = Secp256k1Keypair.create
  Secp256k1Keypair.create = async (options) => Secp256k1Keypair.import(hex, options)
  try {
    return await make()
  } finally {
    Secp256k1Keypair.create = create
  }
}

// Publishes the lexicons that lie in a folder, if there are any: what is not published is only unknown to the PDS,
// which stores records of unknown lexicons all the same.
async function publish(folder, url, did, token) {
  const files = fs.existsSync(folder) ? fs.readdirSync(folder).filter((f) => f.endsWith('.json')).sort() : []
  for (const file of files) {
    const lexicon = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'))
    const record = { $type: 'com.atproto.lexicon.schema', ...lexicon }
    const collection = 'com.atproto.lexicon.schema'
    await call(url, 'com.atproto.repo.putRecord', { repo: did, collection, rkey: lexicon.id, record }, token)
  }
}
