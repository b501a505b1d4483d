// One end of a plain Hypercore replication over TCP, as JavaScript does it.
//
//   node peer.js serve --hypercore 11|10 --count N [--seed S] [--kind bytes|text] [--size BYTES] [--compat]
//   node peer.js pull  --hypercore 11|10 --count N --key HEX --port P
//   node peer.js follow --hypercore 11|10 --key HEX --port P
//
// `serve` fills a new feed, prints {"key","port",...} and serves as Noise responder until its stdin
// ends; a line `cut LENGTH COUNT SEED` on it truncates the feed and appends other blocks, and
// prints {"fork","length",...}. `pull` fetches N blocks as Noise initiator, reads them back and prints
// their digest. `follow` does so whenever the feed has changed, and prints {"fork","length",...}. Every
// line on stdout is one JSON object. Feeds lie in `--folder`, or in a temporary one; both are removed at
// the end, where it comes to that: whoever kills it removes the folder.
'use strict'

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const { Digest, block } = require('./blocks')
const { say, fail } = require('./talk')

const role = process.argv[2]
const options = { hypercore: '11', count: '0', seed: '1', kind: 'bytes' }
for (let i = 3; i < process.argv.length; i++) {
  const name = process.argv[i].replace(/^--/, '')
  options[name] = name === 'compat' ? true : process.argv[++i]
}
const count = Number(options.count)
const Hypercore = require('hypercore' + options.hypercore)
const folder = options.folder || fs.mkdtempSync(path.join(os.tmpdir(), 'kinlog-npm-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

function replicate (core, initiator, socket) {
  socket.setNoDelay(true)
  const stream = core.replicate(initiator)
  stream.on('error', (error) => say({ event: 'stream closed', reason: String(error.message) }))
  socket.on('error', () => {})
  socket.pipe(stream).pipe(socket)
}

async function serve () {
  const core = new Hypercore(folder, { compat: options.compat === true })
  await core.ready()
  const digest = new Digest()
  const fixed = options.size === undefined ? null : Buffer.alloc(Number(options.size), 0x61)
  for (let start = 0; start < count; start += 500) {
    const batch = []
    for (let index = start; index < Math.min(count, start + 500); index++) {
      const bytes = fixed || block(Number(options.seed), index, options.kind)
      digest.update(bytes)
      batch.push(bytes)
    }
    await core.append(batch)
  }
  const server = net.createServer((socket) => replicate(core, false, socket))
  server.listen(0, '127.0.0.1', () => {
    say({ key: core.key.toString('hex'), port: server.address().port, ...digest.final() })
  })
  const lines = require('readline').createInterface({ input: process.stdin })
  lines.on('close', () => process.exit(0))
  for await (const line of lines) {
    const [length, more, seed] = line.split(' ').slice(1).map(Number)
    await core.truncate(length)
    const batch = []
    for (let index = length; index < length + more; index++) batch.push(block(seed, index, options.kind))
    await core.append(batch)
    say({ fork: core.fork, length: core.length, ...(await digestOf(core)) })
  }
}

async function digestOf (core) {
  const digest = new Digest()
  for (let index = 0; index < core.length; index++) digest.update(await core.get(index, { wait: false }))
  return digest.final()
}

// Prints the digest of the whole feed whenever it is held, until killed.
async function follow () {
  const core = new Hypercore(folder, Buffer.from(options.key, 'hex'))
  await core.ready()
  const socket = net.connect(Number(options.port), '127.0.0.1')
  replicate(core, true, socket)
  core.download({ start: 0, end: -1 })
  let told = ''
  let looking = false
  const look = async () => {
    if (looking) return
    looking = true
    while (told !== core.fork + ':' + core.length && core.length > 0) {
      const { fork, length } = core
      const digest = new Digest()
      for (let index = 0; index < length && core.fork === fork; index++) {
        const bytes = await core.get(index).catch(() => null)
        if (bytes === null) break // it was cut meanwhile
        digest.update(bytes)
      }
      if (core.fork !== fork || core.length !== length) continue
      told = fork + ':' + length
      say({ fork, length, ...digest.final() })
    }
    looking = false
  }
  for (const event of ['append', 'truncate']) core.on(event, () => look().catch(fail))
}

async function pull () {
  const core = new Hypercore(folder, Buffer.from(options.key, 'hex'))
  await core.ready()
  const started = process.hrtime.bigint()
  const socket = net.connect(Number(options.port), '127.0.0.1')
  replicate(core, true, socket)
  await core.download({ start: 0, end: count }).done()
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const digest = new Digest()
  for (let index = 0; index < count; index++) digest.update(await core.get(index, { wait: false }))
  say({ done: true, seconds, length: core.length, ...digest.final() })
  process.exit(0)
}

if (role === 'serve') serve().catch(fail)
else if (role === 'pull') pull().catch(fail)
else if (role === 'follow') follow().catch(fail)
else fail('say serve, pull or follow')
