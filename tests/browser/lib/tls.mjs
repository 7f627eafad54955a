// An https address in front of a server that speaks plain http, with a certificate that is made for the occasion.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import net from 'node:net'
import tls from 'node:tls'

/** Listens on a free port of this machine and passes everything on to `address` (host:port); gives back its own. */
export async function terminate(name, address) {
  const { hostname: host, port } = new URL(`http://${address}`)
  const server = tls.createServer({ ...certificate(name), ALPNProtocols: ['http/1.1'] }, (browser) => {
    const behind = net.connect(Number(port), host)
    browser.on('error', () => behind.destroy()).on('close', () => behind.destroy())
    behind.on('error', () => browser.destroy()).on('close', () => browser.destroy())
    browser.pipe(behind).pipe(browser)
  })
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  server.unref()
  return `127.0.0.1:${server.address().port}`
}

// X.509 by hand (RFC 5280), since node reads certificates and writes none: self-signed, ES256, for a day.
function certificate(name) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSha256 = sequence(Buffer.from('06082a8648ce3d040302', 'hex'))
  const commonName = sequence(der(0x31, sequence(Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from(name)))))
  const at = (ms) => der(0x17, Buffer.from(new Date(ms).toISOString().replace(/^..|[-:T]|\.\d+/g, '')))
  const validity = sequence(at(Date.now() - 86_400_000), at(Date.now() + 86_400_000))
  const names = der(0x04, sequence(der(0x82, Buffer.from(name))))
  const extensions = der(0xa3, sequence(sequence(Buffer.from('0603551d11', 'hex'), names)))
  const version3 = der(0xa0, der(0x02, Buffer.of(2)))
  const serial = der(0x02, Buffer.concat([Buffer.of(1), randomBytes(15)]))
  const key = publicKey.export({ type: 'spki', format: 'der' })
  const body = sequence(version3, serial, ecdsaWithSha256, commonName, validity, commonName, key, extensions)
  const signature = der(0x03, Buffer.of(0), sign('sha256', body, privateKey))
  const pem = sequence(body, ecdsaWithSha256, signature).toString('base64')
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    cert: `-----BEGIN CERTIFICATE-----\n${pem}\n-----END CERTIFICATE-----\n`,
  }
}

function der(tag, ...parts) {
  const body = Buffer.concat(parts)
  const { length } = body
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.of(tag, ...size), body])
}

function sequence(...parts) {
  return der(0x30, ...parts)
}
