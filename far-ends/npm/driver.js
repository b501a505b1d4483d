// JavaScript Hypercores that a test drives, line by line.
//
//   node driver.js --hypercore 11|10 --folder EMPTY
//
// Each line on stdin is a command as JSON, each line on stdout its answer, in order; what happens
// unasked has an "event". Feeds have names that the test gives, and lie in the folder. It ends with
// stdin. Commands:
//
//   {do: "make", name}                              a new feed of our own
//   {do: "open", name, key}                         a feed of somebody else's
//   {do: "append", name, seed, count, kind?}        blocks of blocks.js, from the feed's length on
//   {do: "clear", name, ranges: [[a, b], ...]}
//   {do: "truncate", name, length}
//   {do: "listen", names}                           serves all of them on each connection; {port}
//   {do: "connect", names, port}                    replicates all of them on one stream
//   {do: "download", name, ranges}                  ends when all of it is held
//   {do: "wait", name, fork?, length}               ends when the feed has come that far
//   {do: "get", name, index, ms?}                   {held: false} when nobody brings it in time
//   {do: "seek", name, bytes}                       {block, offset}, asked of peers where need be
//   {do: "digest", name, ranges?}                   of what is held
//   {do: "active", name, active}                    whether it is read; channels of feeds nobody reads close
//   {do: "peers", name, count}                      ends when so many peers' channels are open
//   {do: "extend", name, text}                      says it to all peers by an extension of its own
//   {do: "pushed", name, key}                       the same as "open", of a feed of 11 that only takes pushes
//   {do: "push", name, ranges}                      sends blocks to all peers once these allow it (11 only)
//   {do: "hangup"}                                  ends all connections
'use strict'

const net = require('net')
const path = require('path')
const { keyPair } = require('hypercore-crypto')
const { Digest, block } = require('./blocks')
const { say, fail } = require('./talk')

const option = (name) => process.argv[process.argv.indexOf(name) + 1]
const version = option('--hypercore')
const folder = option('--folder')
const Hypercore = require('hypercore' + version)
// Of 11 all feeds share one database: each would take 70 MB of its own.
const shared = version === '11' ? new (require('hypercore-storage'))(folder) : null
const storage = (name) => shared || path.join(folder, name)

// A feed that is read no more is so at once.
const options = { notDownloadingLinger: 0 }

const cores = new Map()
const sockets = new Set()

// One stream for all of `names`: a channel each.
function replicate (names, initiator, socket) {
  socket.setNoDelay(true)
  const stream = Hypercore.createProtocolStream(initiator)
  stream.noiseStream.on('error', (error) => say({ event: 'stream closed', reason: String(error.message) }))
  socket.on('error', () => {})
  socket.on('close', () => sockets.delete(socket))
  sockets.add(socket)
  for (const name of names) cores.get(name).replicate(stream)
  socket.pipe(stream).pipe(socket)
}

async function digestOf (core, ranges) {
  const digest = new Digest()
  for (const [start, end] of ranges || [[0, core.length]]) {
    for (let index = start; index < end; index++) digest.update(await core.get(index, { wait: false }))
  }
  return digest.final()
}

const about = (core) => ({ key: core.key.toString('hex'), fork: core.fork, length: core.length, bytes: core.byteLength })

// A new feed; in a shared database one has to say which.
function made (name) {
  if (shared === null) return new Hypercore(storage(name), null, options)
  const pair = keyPair()
  const manifest = { version: 1, signers: [{ publicKey: pair.publicKey }] }
  return new Hypercore(shared, Hypercore.key(manifest), { keyPair: pair, manifest, ...options })
}

const commands = {
  async make ({ name }) {
    const core = made(name)
    await core.ready()
    cores.set(name, core)
    return about(core)
  },
  async open ({ name, key }) {
    const core = new Hypercore(storage(name), Buffer.from(key, 'hex'), options)
    await core.ready()
    cores.set(name, core)
    return about(core)
  },
  async append ({ name, seed, count, kind }) {
    const core = cores.get(name)
    const end = core.length + count
    while (core.length < end) {
      const batch = []
      for (let index = core.length; index < Math.min(end, core.length + 500); index++) {
        batch.push(block(seed, index, kind || 'bytes'))
      }
      await core.append(batch)
    }
    return about(core)
  },
  async clear ({ name, ranges }) {
    for (const [start, end] of ranges) await cores.get(name).clear(start, end)
    return {}
  },
  async truncate ({ name, length }) {
    await cores.get(name).truncate(length)
    return about(cores.get(name))
  },
  listen ({ names }) {
    const server = net.createServer((socket) => replicate(names, false, socket))
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }))
    })
  },
  async connect ({ names, port }) {
    replicate(names, true, net.connect(port, '127.0.0.1'))
    return {}
  },
  async download ({ name, ranges }) {
    const core = cores.get(name)
    const all = ranges.map(([start, end]) => core.download({ start, end }).done())
    await Promise.all(all)
    return digestOf(core, ranges)
  },
  async wait ({ name, fork, length }) {
    const core = cores.get(name)
    while (core.length < length || core.fork < (fork || 0)) {
      if (await core.update({ wait: true })) continue
      await new Promise((resolve) => { core.once('append', resolve); core.once('truncate', resolve) })
    }
    return about(core)
  },
  async get ({ name, index, ms }) {
    try {
      const bytes = await cores.get(name).get(index, { timeout: ms || 0 })
      const digest = new Digest()
      digest.update(bytes)
      return { held: true, ...digest.final() }
    } catch (error) {
      if (!/timed? ?out/i.test(String(error.code) + error.message)) throw error
      return { held: false }
    }
  },
  async seek ({ name, bytes }) {
    const [block, offset] = await cores.get(name).seek(bytes)
    return { block, offset }
  },
  async active ({ name, active }) {
    cores.get(name).setActive(active)
    return {}
  },
  async peers ({ name, count }) {
    const core = cores.get(name)
    while (core.peers.length !== count) {
      await new Promise((resolve) => { core.once('peer-add', resolve); core.once('peer-remove', resolve) })
    }
    return {}
  },
  async pushed ({ name, key }) {
    const core = new Hypercore(storage(name), Buffer.from(key, 'hex'), { ...options, allowPush: true, pushOnly: true })
    await core.ready()
    cores.set(name, core)
    return about(core)
  },
  async push ({ name, ranges }) {
    const { replicator } = cores.get(name).core
    while (!replicator.peers.every((peer) => peer.remoteAllowPush)) await new Promise(setImmediate)
    for (const [start, end] of ranges) {
      for (let index = start; index < end; index++) await replicator.push(index)
    }
    return {}
  },
  async extend ({ name, text }) {
    cores.get(name).registerExtension('far-end/' + text.length, {}).broadcast(Buffer.from(text))
    return {}
  },
  digest: ({ name, ranges }) => digestOf(cores.get(name), ranges),
  async hangup () {
    for (const socket of sockets) socket.destroy()
    return {}
  }
}

async function run () {
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    const command = JSON.parse(line)
    say({ did: command.do, ...(await commands[command.do](command)) })
  }
  process.exit(0)
}

run().catch(fail)
