// PLC directory: @did-plc/server's in-memory database, kept in a JSON file so that a restart on the same data
// directory still knows its DIDs, and with /export filled in (the published mock answers it with nothing).
import fs from 'node:fs'
import { createRequire } from 'node:module'
const require = createRequire(import.meta.url)
const { PlcServer, MockDatabase } = require('@did-plc/server')
// the CID class that @did-plc/server itself uses
const inner = createRequire(require.resolve('@did-plc/server'))
const { CID } = inner('multiformats/cid')
const { validateOperationLog } = inner('@did-plc/lib')

class FilePlcDatabase extends MockDatabase {
  constructor(file) {
    super()
    this.file = file
    if (fs.existsSync(file)) {
      for (const [did, ops] of Object.entries(JSON.parse(fs.readFileSync(file, 'utf8')))) {
        this.contents[did] = ops.map((op) => ({ ...op, cid: CID.parse(op.cid), createdAt: new Date(op.createdAt) }))
      }
    }
  }
  async validateAndAddOp(did, op) {
    await super.validateAndAddOp(did, op)
    const plain = {}
    for (const [d, ops] of Object.entries(this.contents)) plain[d] = ops.map((o) => ({ ...o, cid: o.cid.toString() }))
    fs.writeFileSync(this.file + '.tmp', JSON.stringify(plain, null, 1))
    fs.renameSync(this.file + '.tmp', this.file)
  }
  async exportOps(count, after) {
    return Object.values(this.contents)
      .flat()
      .filter((op) => !after || op.createdAt > after)
      .sort((a, b) => a.createdAt - b.createdAt)
      .slice(0, count)
      .map((op) => ({ ...op, cid: op.cid.toString(), createdAt: op.createdAt.toISOString() }))
  }
}

// The published server formats keys as EcdsaSecp256k1VerificationKey2019; plc.directory has said Multikey since 2023.
const curve = (key) => (key.startsWith('did:key:zQ3s') ? 'secp256k1' : 'ecdsa')
const suite = (key) => `https://w3id.org/security/suites/${curve(key)}-2019/v1`
const didDocument = ({ did, alsoKnownAs, verificationMethods, services }) => ({
  '@context': [
    'https://www.w3.org/ns/did/v1',
    'https://w3id.org/security/multikey/v1',
    ...new Set(Object.values(verificationMethods).map(suite)),
  ],
  id: did,
  alsoKnownAs,
  verificationMethod: Object.entries(verificationMethods).map(([id, key]) => ({
    id: `${did}#${id}`, type: 'Multikey', controller: did, publicKeyMultibase: key.slice('did:key:'.length),
  })),
  service: Object.entries(services).map(([id, s]) => ({ id: `#${id}`, type: s.type, serviceEndpoint: s.endpoint })),
})

export async function startPlc({ port, file }) {
  const db = new FilePlcDatabase(file)
  const server = PlcServer.create({ db, port, version: 'devnet' })
  server.app.get('/:did(did:plc:[a-z2-7]{24})', async (req, res, next) => {
    const ops = await db.opsForDid(req.params.did)
    if (!ops.length) return next() // the server's own 404
    const data = await validateOperationLog(req.params.did, ops)
    if (!data) return res.status(410).json({ message: `DID not available: ${req.params.did}` }) // tombstoned
    res.type('application/did+ld+json').send(JSON.stringify(didDocument(data)))
  })
  const { stack } = server.app._router
  stack.splice(2, 0, stack.pop())
  await server.start()
  return server
}
