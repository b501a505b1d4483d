// Figures of JavaScript Hypercore alone, one JSON line: {"seconds", ...}.
//
//   node bench.js append --hypercore 11|10 --blocks N --size BYTES --batch N
//   node bench.js fill   --hypercore 11|10 --blocks N --size BYTES --batch N --folder DIR
//   node bench.js get    --hypercore 11|10 --count N --folder DIR
//   node bench.js open   --hypercore 11|10 --folder DIR
//   node bench.js live   --hypercore 11|10 --count N
//
// `append`: the clock runs from the first append to the resolution of the last one; batches follow
// each other, as `append` of a batch resolves when it is applied (Hypercore does not sync it to
// disk). `get`: random blocks of a filled folder, 64 in flight. `open`: from the constructor to the
// newest block. `live`: {"p50_ms","p99_ms"} from calling `append` to the resolution of `get` of that
// block, called before, at another feed of this process that replicates over loopback TCP.
'use strict'

const fs = require('fs')
const os = require('os')
const path = require('path')

const options = { hypercore: '11', blocks: '100000', size: '100', batch: '1000', count: '1' }
for (let i = 3; i + 1 < process.argv.length; i += 2) {
  options[process.argv[i].replace(/^--/, '')] = process.argv[i + 1]
}
const Hypercore = require('hypercore' + options.hypercore)
const [blocks, size, batch, count] = ['blocks', 'size', 'batch', 'count'].map((name) => Number(options[name]))
const folder = options.folder || fs.mkdtempSync(path.join(process.env.KINLOG_BENCH_DIR || os.tmpdir(), 'npm-'))
if (!options.folder) process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

const IN_FLIGHT = 64

const seconds = async (work) => {
  const started = process.hrtime.bigint()
  await work()
  return Number(process.hrtime.bigint() - started) / 1e9
}

async function append () {
  const core = new Hypercore(folder)
  await core.ready()
  const values = new Array(batch).fill(Buffer.alloc(size, 0x61))
  const took = await seconds(async () => {
    for (let at = 0; at < blocks; at += batch) {
      await core.append(batch === 1 ? values[0] : values)
    }
  })
  if (core.length !== blocks) throw new Error(`length ${core.length}, expected ${blocks}`)
  await core.close()
  return { seconds: took, blocks, bytes: blocks * size }
}

async function get () {
  const core = new Hypercore(folder)
  await core.ready()
  let left = count
  const reader = async () => {
    while (left-- > 0) {
      const index = Math.floor(Math.random() * core.length)
      if (await core.get(index, { wait: false }) === null) throw new Error(`block ${index} is missing`)
    }
  }
  const took = await seconds(() => Promise.all(Array.from({ length: IN_FLIGHT }, reader)))
  return { seconds: took, count }
}

async function open () {
  const core = new Hypercore(folder)
  await core.ready()
  if (await core.get(core.length - 1, { wait: false }) === null) throw new Error('the newest block is missing')
}

async function live () {
  const net = require('net')
  const writer = new Hypercore(path.join(folder, 'writer'))
  await writer.ready()
  await writer.append(Buffer.alloc(100, 0x61))
  const replicate = (core, initiator, socket) => {
    socket.setNoDelay(true)
    const stream = core.replicate(initiator)
    stream.on('error', () => {})
    socket.pipe(stream).pipe(socket)
  }
  const server = net.createServer((socket) => replicate(writer, false, socket))
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const reader = new Hypercore(path.join(folder, 'reader'), writer.key)
  await reader.ready()
  replicate(reader, true, net.connect(server.address().port, '127.0.0.1'))
  await reader.get(0)
  const times = []
  for (let index = 1; index <= count; index++) {
    const got = reader.get(index)
    const started = process.hrtime.bigint()
    await writer.append(Buffer.alloc(100, 0x61))
    await got
    times.push(Number(process.hrtime.bigint() - started) / 1e6)
  }
  times.sort((a, b) => a - b)
  const at = (part) => times[Math.floor(times.length * part)]
  return { p50_ms: at(0.5), p99_ms: at(0.99) }
}

const tasks = {
  append,
  fill: append,
  get,
  live,
  open: async () => ({ seconds: await seconds(open) })
}

const task = tasks[process.argv[2]]
if (!task) throw new Error(`say one of ${Object.keys(tasks).join(', ')}`)
task().then((said) => {
  process.stdout.write(JSON.stringify(said) + '\n')
  process.exit(0)
}).catch((error) => { console.error(error); process.exit(1) })
