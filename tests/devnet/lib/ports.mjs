// Which ports the network listens on: those of the config, a row of them from a base, or free ones.
import dgram from 'node:dgram'
import net from 'node:net'
import { once } from 'node:events'

// Below the range that systems hand to outgoing connections (Linux from 32768, others from 49152): a port taken from
// that range can be somebody's source port by the time it is listened on.
const FIRST = 10_000
const LAST = 32_000

/** Sets every port of `cfg` to `base`, `base + 1`, …: control, PLC, relay, DNS, then the PDSes in their order. */
export function fromBase(cfg, base) {
  const last = base + 3 + cfg.pds.length
  if (!Number.isInteger(base) || base < 1 || last > 65_535) throw new Error(`no such ports: ${base} to ${last}`)
  assign(cfg, Array.from({ length: 4 + cfg.pds.length }, (_, i) => base + i))
}

/**
 * Sets every port of `cfg` to a free one and keeps them from other networks that start now: each stays taken until
 * `release(port)`, which the network calls in the moment before it listens itself.
 */
export async function chooseFree(cfg, host) {
  const held = new Map()
  while (held.size < 4 + cfg.pds.length) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST))
    const server = !held.has(port) && (await hold(port, host))
    if (server) held.set(port, server)
  }
  assign(cfg, [...held.keys()])
  return (port) => {
    held.get(port)?.close()
    held.delete(port)
  }
}

function assign(cfg, [control, plc, relay, dns, ...pds]) {
  Object.assign(cfg, { controlPort: control, plcPort: plc, relayPort: relay, dnsPort: dns })
  cfg.pds.forEach((p, i) => (p.port = pds[i]))
}

// A port counts as free when TCP and UDP both are: DNS needs both.
async function hold(port, host) {
  const udp = dgram.createSocket('udp4')
  const tcp = net.createServer()
  try {
    udp.bind(port, host)
    await once(udp, 'listening')
    tcp.listen({ port, host })
    await once(tcp, 'listening')
    return tcp
  } catch {
    return undefined
  } finally {
    udp.close()
  }
}
