// The PDSes: the real @atproto/pds with its OAuth provider, several in one process.
import fs from 'node:fs'
import path from 'node:path'
import { PDS } from '@atproto/pds'

/** Fills `network.pds`, and adds `startPds`, `stopPds`, `pdsForHandle` and `resolveHandle`; starts none. */
export function addPdses(network, { cfg, dataDir, secret }) {
  for (const conf of cfg.pds) {
    network.pds.set(conf.name, { conf, url: `http://localhost:${conf.port}`, server: undefined })
  }
  network.startPds = async (name) => {
    const p = named(network, name)
    p.server ??= await start(network, { cfg, dataDir, secret, conf: p.conf })
  }
  network.stopPds = async (name) => {
    const p = named(network, name)
    const { server } = p
    p.server = undefined
    await server?.destroy()
  }
  // The PDS that serves a handle: the longest handle domain that fits.
  network.pdsForHandle = (handle) =>
    [...network.pds.values()]
      .filter((p) => handle.endsWith(p.conf.handleDomain))
      .sort((a, b) => b.conf.handleDomain.length - a.conf.handleDomain.length)[0]
  network.resolveHandle = async (handle) => {
    const p = network.pdsForHandle(handle)
    return p?.server && (await p.server.ctx.accountManager.getAccount(handle))?.did
  }
}

function named(network, name) {
  const p = network.pds.get(name)
  if (!p) throw Object.assign(new Error(`there is no PDS "${name}"`), { status: 404 })
  return p
}

async function start(network, { cfg, dataDir, secret, conf }) {
  const dir = path.join(dataDir, conf.name)
  fs.mkdirSync(dir, { recursive: true })
  const server = await PDS.fromEnv({
    devMode: true, // http:// issuer and resource; validates responses
    hostname: 'localhost', // makes the public URL http://localhost:<port>; any other name makes it https
    port: conf.port,
    serviceDid: `did:web:localhost%3A${conf.port}`, // default did:web:localhost is the same for every PDS
    serviceName: conf.name,
    serviceHandleDomains: [conf.handleDomain],
    dataDirectory: dir,
    blobstoreDiskLocation: path.join(dir, 'blobs'),
    blobstoreDiskTmpLocation: path.join(dir, 'blobs-tmp'),
    didPlcUrl: network.plcUrl,
    // 1 h and 24 h by default: too long to test identity changes
    didCacheStaleTTL: 1000,
    didCacheMaxTTL: 5000,
    plcRotationKeyK256PrivateKeyHex: secret(`plc-rotation:${conf.name}`),
    jwtSecret: secret(`jwt:${conf.name}`),
    dpopSecret: secret(`dpop:${conf.name}`),
    adminPassword: cfg.adminPassword,
    inviteRequired: false,
    disableSsrfProtection: true,
    enableDidDocWithSession: true,
    acceptingImports: true,
    // control.mjs answers getProfile(s) and resolveHandle
    bskyAppViewUrl: network.controlUrl,
    bskyAppViewDid: `did:web:localhost%3A${cfg.controlPort}`,
    trustedOAuthClients: cfg.trustedOAuthClients ?? [],
    ...(conf.env ?? {}),
  })
  answerForeignHandles(network, server, conf)
  catchMail(network, server, conf)
  server.ctx.cfg.lexicon.didAuthority = network.lexiconAuthority
  if (!cfg.cacheOAuthClients) refetchOAuthClients(server)
  await server.start()
  return server
}

// Handles of the other PDSes, and of a domain that is also under this one's, like .two.test under .test.
function answerForeignHandles(network, server, conf) {
  server.ctx.idResolver.handle.resolve = async (handle) => network.resolveHandle(handle)
  server.app.use(async (req, res, next) => {
    const handle =
      req.path === '/xrpc/com.atproto.identity.resolveHandle' && String(req.query.handle ?? '').toLowerCase()
    if (!handle || (network.pdsForHandle(handle)?.conf.name ?? conf.name) === conf.name) return next()
    const did = await network.resolveHandle(handle)
    if (did) return res.json({ did })
    res.status(400).json({ error: 'HandleNotFound', message: 'Unable to resolve handle' })
  })
  const { stack } = server.app._router
  stack.splice(2, 0, stack.pop()) // ahead of everything but express's own query and init
}

// Mail goes to memory, with the token in it: GET <control>/mail
function catchMail(network, server, conf) {
  const { transporter } = server.ctx.mailer
  const send = transporter.sendMail
  transporter.sendMail = async function (mail, ...rest) {
    const text = String(mail.html ?? mail.text ?? '')
    const token = /\b[A-Z2-7]{5}-[A-Z2-7]{5}\b/.exec(text)?.[0]
    network.mail.push({ at: new Date().toISOString(), pds: conf.name, to: mail.to, subject: mail.subject, token, text })
    return send.call(this, mail, ...rest)
  }
}

// A real PDS keeps a client's metadata and keys for 10 minutes; here a client that starts anew with another key works.
function refetchOAuthClients(server) {
  const { metadataGetter, jwks } = server.ctx.oauthProvider.clientManager
  for (const getter of [metadataGetter, jwks]) {
    const get = getter.get
    getter.get = function (key, options) {
      return get.call(this, key, { ...options, noCache: true })
    }
  }
}
