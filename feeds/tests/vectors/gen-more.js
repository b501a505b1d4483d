// More vectors from npm hypercore 11: every kind of manifest with its signatures, and which nodes
// answer several hundred requests. Run: HC=/path/with/node_modules node gen-more.js > hypercore-v11-more.json
const HC = process.env.HC || '.'
const R = (name) => require(HC + '/node_modules/' + name)
const fs = require('fs')
const os = require('os')
const Hypercore = R('hypercore')
const crypto = R('hypercore-crypto')
const Verifier = R('hypercore/lib/verifier')
const multisig = R('hypercore/lib/multisig')
const { MerkleTree } = R('hypercore/lib/merkle-tree')

const hex = (buffer) => Buffer.from(buffer).toString('hex')
const indexes = (nodes) => nodes.map((node) => node.index)
const node = (n) => ({ index: n.index, size: n.size, hash: hex(n.hash) })

// A small generator of numbers, so that the file comes out the same again (Numerical Recipes).
let state = 1
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}

async function open(blocks) {
  const dir = fs.mkdtempSync(os.tmpdir() + '/vectors-')
  const core = new Hypercore(dir, { keyPair: crypto.keyPair(Buffer.alloc(32, 1)) })
  await core.ready()
  for (const block of blocks) await core.append(block)
  return core
}

async function proof(core, request) {
  const state = core.core.state
  const rx = state.storage.read()
  try {
    const made = await MerkleTree.proof(state, rx, { block: null, hash: null, seek: null, upgrade: null, ...request })
    rx.tryFlush()
    return await made.settle()
  } catch (error) {
    rx.destroy()
    throw error
  }
}

const size = (index) => (index * 7) % 11

async function proofs() {
  const out = []
  for (const length of [1, 2, 3, 7, 8, 13, 16, 31, 37]) {
    const blocks = []
    for (let i = 0; i < length; i++) blocks.push(Buffer.alloc(size(i), i))
    const core = await open(blocks)
    const bytes = blocks.reduce((sum, block) => sum + block.length, 0)
    const requests = []
    for (let i = 0; i < 70; i++) {
      const request = {}
      const kind = random(5)
      if (kind < 2) request.block = { index: random(length + 1), nodes: random(2) * random(7) }
      if (kind === 2) request.hash = { index: random(2 * length), nodes: random(2) * random(6) }
      if (random(3) === 0 || kind === 3) request.seek = { bytes: random(bytes + 2), padding: 0 }
      if (random(2) === 0 || kind === 4) {
        const start = random(length)
        request.upgrade = { start, length: random(length - start + 1) + (random(9) ? 0 : 1) }
      }
      let nodes = null
      try {
        const p = await proof(core, request)
        nodes = {}
        if (p.block) nodes.block = indexes(p.block.nodes)
        if (p.hash) nodes.hash = indexes(p.hash.nodes)
        if (p.seek) nodes.seek = indexes(p.seek.nodes)
        if (p.upgrade) nodes.upgrade = [indexes(p.upgrade.nodes), indexes(p.upgrade.additionalNodes)]
      } catch (error) {
        // JavaScript refuses: nodes stay null.
      }
      requests.push({ request, nodes })
    }
    out.push({ length, requests })
    await core.close()
  }
  return out
}

async function signatures() {
  const blocks = []
  for (let i = 0; i < 9; i++) blocks.push(Buffer.from('block ' + i))
  const core = await open(blocks)
  const pairs = [1, 2, 3].map((seed) => crypto.keyPair(Buffer.alloc(32, seed)))
  const signers = pairs.map((pair) => ({ publicKey: pair.publicKey }))

  const batchAt = async (length) => {
    const batch = core.core.state.createTreeBatch()
    batch.roots = await MerkleTree.getRootsFromStorage(core.core.state.storage, length)
    batch.length = length
    batch.byteLength = MerkleTree.size(batch.roots)
    return batch
  }
  const nodesBetween = async (from, to) => (await proof(core, { upgrade: { start: from, length: to - from } })).upgrade.nodes

  const out = []
  const add = async (name, manifest, at, inputs) => {
    const full = Verifier.createManifest(manifest)
    const key = Verifier.manifestHash(full)
    const verifier = new Verifier(key, full)
    const parts = []
    for (const { signer, length } of inputs) {
      const longer = await batchAt(length)
      const signature = verifier.signers[signer].sign(longer, pairs[signer])
      parts.push({ signer, signature, patch: length - at, nodes: length > at ? await nodesBetween(at, length) : null })
    }
    const batch = await batchAt(at)
    const single = full.version === 0 && full.signers.length === 1 && !full.allowPatch
    const signature = parts.length === 0 ? Buffer.alloc(0) : single ? parts[0].signature : verifier.assemble(parts)
    let accepted = false
    try {
      accepted = verifier.verify(batch, signature)
    } catch {
      // A field that does not decode is refused too.
    }
    out.push({
      name,
      manifest: hex(Verifier.encodeManifest(full)),
      key: hex(key),
      length: at,
      roots: batch.roots.map(node),
      treeHash: hex(batch.hash()),
      signature: hex(signature),
      accepted
    })
  }

  const at5 = { hash: (await batchAt(5)).hash(), length: 5 }
  await add('v0 one signer', { version: 0, signers: signers.slice(0, 1), quorum: 1 }, 5, [{ signer: 0, length: 5 }])
  await add('v0 two of three', { version: 0, signers, quorum: 2 }, 5, [{ signer: 0, length: 5 }, { signer: 2, length: 5 }])
  await add('v0 two of three, patched', { version: 0, signers, quorum: 2, allowPatch: true }, 5, [{ signer: 1, length: 8 }, { signer: 2, length: 5 }])
  await add('v0 one signer, patched', { version: 0, signers: signers.slice(0, 1), quorum: 1, allowPatch: true }, 4, [{ signer: 0, length: 9 }])
  await add('v0 static', { version: 0, signers: [], quorum: 0, prologue: { hash: at5.hash, length: 0 } }, 5, [])
  for (const version of [1, 2, 3]) {
    await add(`v${version} two of three`, { version, signers, quorum: 2 }, 5, [{ signer: 0, length: 5 }, { signer: 2, length: 5 }])
    await add(`v${version} two of three, two lengths`, { version, signers, quorum: 2, allowPatch: true }, 3, [{ signer: 2, length: 7 }, { signer: 0, length: 9 }])
  }
  await add('too few', { version: 1, signers, quorum: 2 }, 5, [{ signer: 0, length: 5 }])
  await add('one signer twice', { version: 1, signers, quorum: 2 }, 5, [{ signer: 0, length: 5 }, { signer: 0, length: 5 }])
  await add('one more than needed', { version: 1, signers, quorum: 2 }, 5, [{ signer: 0, length: 5 }, { signer: 1, length: 5 }, { signer: 2, length: 5 }])
  await add('prologue reached', { version: 1, signers, quorum: 2, prologue: at5 }, 5, [])
  await add('prologue not reached', { version: 1, signers, quorum: 2, prologue: at5 }, 4, [])
  await add('prologue passed', { version: 1, signers, quorum: 2, prologue: at5 }, 7, [{ signer: 0, length: 7 }, { signer: 1, length: 7 }])
  await add('prologue passed, unsigned', { version: 1, signers, quorum: 2, prologue: at5 }, 7, [])
  await add('prologue only', { version: 1, signers: [], quorum: 0, prologue: at5 }, 5, [])
  await add('prologue only, passed', { version: 1, signers: [], quorum: 0, prologue: at5 }, 6, [])
  await add('user data and links', { version: 3, signers: signers.slice(0, 1), quorum: 1, userData: Buffer.from('data'), linked: [Buffer.alloc(32, 9)] }, 5, [{ signer: 0, length: 5 }])
  await core.close()
  return out
}

async function main() {
  const version = R('hypercore/package.json').version
  const out = { hypercore: version, signatures: await signatures(), proofs: await proofs() }
  const lines = (list) => '[\n' + list.map((item) => '  ' + JSON.stringify(item)).join(',\n') + '\n ]'
  const feeds = out.proofs.map(({ length, requests }) => `{"length": ${length}, "requests": ${lines(requests)}}`)
  console.log(`{"hypercore": "${version}",\n "signatures": ${lines(out.signatures)},\n "proofs": [\n${feeds.join(',\n')}\n]}`)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
