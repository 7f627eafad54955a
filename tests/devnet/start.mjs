// A local AT Protocol network: PLC directory, PDSes, relay and Jetstream stand-ins, DNS; one process, loopback only.
// Usage and endpoints: README.md. Start it with ./run, which finds a node that is new enough.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { steerClock } from './lib/clock.mjs'
import { listenOnlyOn, serveVirtualHosts } from './lib/loopback.mjs'
import { chooseFree, fromBase } from './lib/ports.mjs'

const MARK = '.devnet' // a file in every data directory: only a directory that has it is ever emptied

const refuse = (why) => {
  console.error(`devnet: ${why}`)
  process.exit(2)
}
const { node } = process.versions
if (Number(node.split('.')[0]) < 22) refuse(`node ${node} is older than 22: use ./run`)

function readOptions() {
  try {
    return parseArgs({
      options: {
        config: { type: 'string', default: path.join(import.meta.dirname, 'devnet.config.json') },
        data: { type: 'string' },
        keep: { type: 'boolean', default: false },
        out: { type: 'string' },
        ports: { type: 'string' },
        'port-base': { type: 'string' },
        'until-stdin-closes': { type: 'boolean', default: false },
        'max-seconds': { type: 'string' },
      },
    }).values
  } catch (err) {
    return refuse(err.message)
  }
}
const opt = readOptions()
if (opt.ports !== undefined && opt.ports !== 'auto') refuse(`--ports knows only "auto", not "${opt.ports}"`)
if (opt.ports && opt['port-base']) refuse('--ports and --port-base exclude each other')
if (opt.keep && !opt.data) refuse('--keep needs --data')

let network
let stopping = false
const atStop = [] // what closes, all at once
const leftovers = [] // files and folders to remove afterwards
async function stop(code) {
  if (stopping) return
  stopping = true
  const patience = new Promise((resolve) => setTimeout(resolve, 5000)) // for a part that doesn't close
  await Promise.race([patience, Promise.allSettled(atStop.map(async (close) => close()))])
  for (const left of leftovers) fs.rmSync(left, { recursive: true, force: true })
  process.exit(code)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void stop(0))
if (opt['max-seconds']) setTimeout(() => void stop(0), Number(opt['max-seconds']) * 1000).unref()
if (opt['until-stdin-closes']) {
  // The other end is gone whichever way its process ended, so a killed test leaves no network behind.
  process.stdin.on('error', () => void stop(0)).on('close', () => void stop(0)).resume()
}

function prepareDataDir() {
  const dir = opt.data ? path.resolve(opt.data) : fs.mkdtempSync(path.join(os.tmpdir(), 'openmeet-devnet-'))
  if (!opt.data) leftovers.push(dir)
  const found = fs.existsSync(dir) ? fs.readdirSync(dir) : []
  if (found.length && !found.includes(MARK)) refuse(`${dir} is not empty and no devnet's data: choose another --data`)
  if (!opt.keep) for (const name of found) fs.rmSync(path.join(dir, name), { recursive: true, force: true })
  fs.mkdirSync(dir, { recursive: true })
  fs.writeFileSync(path.join(dir, MARK), '')
  return dir
}

async function start() {
  const cfg = JSON.parse(fs.readFileSync(opt.config, 'utf8'))
  const host = cfg.bindHost ?? '127.0.0.1'
  let release = () => {}
  if (opt['port-base']) fromBase(cfg, Number(opt['port-base']))
  if (opt.ports === 'auto') release = await chooseFree(cfg, host)
  const dataDir = prepareDataDir()
  const outFile = path.resolve(opt.out ?? path.join(dataDir, 'network.json'))
  fs.rmSync(outFile, { force: true })

  // Logs (pino) go to a file; read when @atproto/* is imported, hence the imports below.
  process.env.LOG_ENABLED ??= 'true'
  process.env.LOG_LEVEL ??= 'info'
  process.env.LOG_DESTINATION ??= path.join(dataDir, 'devnet.log')
  steerClock()
  listenOnlyOn(host, release)
  const virtualHosts = new Map(Object.entries(cfg.virtualHosts ?? {}))
  serveVirtualHosts(virtualHosts)
  const { startPlc } = await import('./lib/plc.mjs')
  const { startDns } = await import('./lib/dns.mjs')
  const { startControl } = await import('./lib/control.mjs')
  const { startRelay } = await import('./lib/relay.mjs')
  const { addPdses } = await import('./lib/pds.mjs')
  const { seedAccounts } = await import('./lib/accounts.mjs')

  // Secrets and keys come out of the seed: the same config on the same ports gives the same DIDs in every run.
  const secret = (name) => createHash('sha256').update(`${cfg.seed}:${name}`).digest('hex')
  network = {
    controlUrl: `http://localhost:${cfg.controlPort}`,
    plcUrl: `http://localhost:${cfg.plcPort}`,
    pds: new Map(),
    accounts: [],
    mail: [],
    virtualHosts,
    lexiconAuthority: undefined,
    ready: false,
  }
  network.describe = () => describe(cfg, host)
  const plc = await startPlc({ port: cfg.plcPort, file: path.join(dataDir, 'plc.json') })
  atStop.push(() => plc.destroy())
  addPdses(network, { cfg, dataDir, secret })
  for (const name of network.pds.keys()) {
    await network.startPds(name)
    atStop.push(() => network.stopPds(name))
  }
  await seedAccounts(network, { accounts: cfg.accounts, secret, lexicons: path.join(import.meta.dirname, 'lexicons') })
  network.relay = await startRelay(network, { port: cfg.relayPort })
  atStop.push(() => network.relay.close())
  const dns = await startDns({ host, port: cfg.dnsPort, ...names(cfg) })
  atStop.push(() => dns.close())
  const control = await startControl(network, { port: cfg.controlPort })
  atStop.push(() => {
    control.close()
    control.closeAllConnections()
  })

  network.ready = true
  const description = network.describe()
  fs.writeFileSync(`${outFile}.tmp`, JSON.stringify(description, null, 2))
  fs.renameSync(`${outFile}.tmp`, outFile)
  leftovers.push(outFile)
  console.log(JSON.stringify(description))
  console.error(`devnet: ready in ${Math.round(process.uptime() * 1000)} ms; ${network.controlUrl}; data in ${dataDir}`)
  console.error(`devnet: stop it with: kill ${process.pid}`)
}

// What DNS knows: the handles, the lexicon authority, and every name under the network's own domains.
function names(cfg) {
  const suffixes = cfg.pds.map((p) => p.handleDomain)
  return {
    txt: async (name) => {
      let did
      if (name.startsWith('_atproto.')) did = await network.resolveHandle(name.slice('_atproto.'.length))
      if (name.startsWith('_lexicon.')) did = network.lexiconAuthority
      return did && `did=${did}`
    },
    hasName: (name) => name === 'localhost' || network.virtualHosts.has(name) || suffixes.some((s) => name.endsWith(s)),
  }
}

function describe(cfg, host) {
  return {
    pid: process.pid,
    controlUrl: network.controlUrl,
    plcUrl: network.plcUrl,
    relayUrl: `http://localhost:${cfg.relayPort}`,
    relaySubscribeRepos: `ws://localhost:${cfg.relayPort}/xrpc/com.atproto.sync.subscribeRepos`,
    jetstreamUrl: `ws://localhost:${cfg.relayPort}/subscribe`,
    dns: `${host}:${cfg.dnsPort}`,
    handleResolverUrl: network.controlUrl,
    appviewUrl: network.controlUrl,
    adminPassword: cfg.adminPassword,
    lexiconAuthority: network.lexiconAuthority,
    virtualHosts: Object.fromEntries(network.virtualHosts),
    pds: [...network.pds.values()].map((p) => ({
      name: p.conf.name,
      url: p.url,
      did: `did:web:localhost%3A${p.conf.port}`,
      handleDomain: p.conf.handleDomain,
      up: p.server !== undefined,
      subscribeRepos: `ws://localhost:${p.conf.port}/xrpc/com.atproto.sync.subscribeRepos`,
    })),
    accounts: network.accounts,
  }
}

try {
  await start()
} catch (err) {
  if (!stopping) console.error('devnet: did not start:', err)
  await stop(1)
}
