// Deterministic pseudo-random blocks, the same in JavaScript and in Rust (cli/tests, benches), and
// the digest that both ends compare: BLAKE2b-256 over u32le length and bytes of each block.
'use strict'

const sodium = require('sodium-universal')

// splitmix32 (a 32-bit relative of SplitMix64): one u32 a step.
class Random {
  constructor (seed) { this.state = seed >>> 0 }

  next () {
    this.state = (this.state + 0x9e3779b9) >>> 0
    let mixed = this.state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
}

// Sizes 0 to 65,536: the extremes first, then many small and some large ones (8 KiB on average).
function size (index, random) {
  const first = [0, 1, 65536, 65535, 2, 0]
  if (index < first.length) return first[index]
  let share = random.next() >>> 16
  const drawn = share
  for (let i = 0; i < 6; i++) share = (share * drawn) >>> 16
  return share
}

// Returns block `index`. Kind 'bytes' has any byte, kind 'text' printable ASCII only (a line).
function block (seed, index, kind) {
  const random = new Random((seed ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0)
  const length = size(index, random)
  const bytes = Buffer.allocUnsafe(length)
  let word = 0
  for (let at = 0; at < length; at++) {
    word = at % 4 === 0 ? random.next() : word >>> 8
    bytes[at] = kind === 'text' ? 0x20 + (word & 0xff) % 95 : word & 0xff
  }
  return bytes
}

class Digest {
  constructor () {
    this.state = Buffer.alloc(sodium.crypto_generichash_STATEBYTES)
    this.count = 0
    this.bytes = 0
    sodium.crypto_generichash_init(this.state, null, 32)
  }

  update (bytes) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.byteLength)
    sodium.crypto_generichash_update(this.state, length)
    if (bytes.byteLength > 0) sodium.crypto_generichash_update(this.state, bytes)
    this.count++
    this.bytes += bytes.byteLength
  }

  final () {
    const hash = Buffer.alloc(32)
    sodium.crypto_generichash_final(this.state, hash)
    return { count: this.count, bytes: this.bytes, digest: hash.toString('hex') }
  }
}

module.exports = { Digest, block }
