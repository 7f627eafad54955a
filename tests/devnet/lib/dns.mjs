// A DNS responder (UDP + TCP), just enough for AT Protocol: TXT _atproto.<handle> and TXT _lexicon.<authority>,
// A/AAAA for every name under the devnet's own domains -> loopback.
import dgram from 'node:dgram'
import net from 'node:net'

const T = { A: 1, TXT: 16, AAAA: 28 }

function parse(q) {
  let o = 12
  const labels = []
  while (q[o]) {
    labels.push(q.toString('latin1', o + 1, o + 1 + q[o]))
    o += q[o] + 1
  }
  return { name: labels.join('.').toLowerCase(), type: q.readUInt16BE(o + 1), end: o + 5 }
}

function reply(q, { rcode, answers }) {
  const { end, type } = parse(q)
  const head = Buffer.from(q.subarray(0, 12))
  head.writeUInt16BE(0x8400 | (q.readUInt16BE(2) & 0x0100) | rcode, 2) // QR AA (RD copied)
  head.writeUInt16BE(1, 4) // one question
  head.writeUInt16BE(answers.length, 6)
  head.writeUInt32BE(0, 8)
  const rrs = answers.map((data) => {
    const rr = Buffer.alloc(12)
    rr.writeUInt16BE(0xc00c, 0) // the name of the question
    rr.writeUInt16BE(type, 2)
    rr.writeUInt16BE(1, 4) // IN
    rr.writeUInt32BE(1, 6) // one second to live, so that changes show
    rr.writeUInt16BE(data.length, 10)
    return Buffer.concat([rr, data])
  })
  return Buffer.concat([head, q.subarray(12, end), ...rrs])
}

export async function startDns({ host, port, txt, hasName }) {
  const answer = async (q) => {
    try {
      const { name, type } = parse(q)
      if (type === T.TXT) {
        const value = await txt(name)
        const data = value && Buffer.concat([Buffer.from([Buffer.byteLength(value)]), Buffer.from(value)])
        if (data) return reply(q, { rcode: 0, answers: [data] })
      } else if (hasName(name)) {
        const answers = type === T.A ? [Buffer.from([127, 0, 0, 1])] : []
        return reply(q, { rcode: 0, answers })
      }
      return reply(q, { rcode: 3, answers: [] })
    } catch {
      return null // not a question that can be answered: silence, as from a name server that is away
    }
  }
  const udp = dgram.createSocket('udp4')
  udp.on('message', async (q, from) => {
    const a = await answer(q)
    if (a) udp.send(a, from.port, from.address)
  })
  await new Promise((res, rej) => { udp.once('error', rej); udp.bind(port, host, res) })
  const tcp = net.createServer((s) => {
    let buf = Buffer.alloc(0)
    s.on('error', () => {})
    s.on('data', async (d) => {
      buf = Buffer.concat([buf, d])
      while (buf.length >= 2 && buf.length >= 2 + buf.readUInt16BE(0)) {
        const length = buf.readUInt16BE(0)
        const q = buf.subarray(2, 2 + length)
        buf = buf.subarray(2 + length)
        const a = await answer(q)
        const prefix = Buffer.alloc(2)
        prefix.writeUInt16BE(a?.length ?? 0)
        if (a) s.write(Buffer.concat([prefix, a]))
      }
    })
  })
  await new Promise((res, rej) => { tcp.once('error', rej); tcp.listen(port, host, res) })
  return {
    close: () => {
      udp.close()
      tcp.close()
    },
  }
}
