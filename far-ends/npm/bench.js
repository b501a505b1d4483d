// Rates of JavaScript Hypercore alone, one JSON line: {"seconds","blocks","bytes"}.
//
//   node bench.js append --hypercore 11|10 --blocks N --size BYTES --batch N
//
// The clock runs from the first append to the resolution of the last one; batches follow each
// other, as `append` of a batch resolves when it is applied (Hypercore does not sync it to disk).
'use strict'

const fs = require('fs')
const os = require('os')
const path = require('path')

const options = { hypercore: '11', blocks: '100000', size: '100', batch: '1000' }
for (let i = 3; i + 1 < process.argv.length; i += 2) {
  options[process.argv[i].replace(/^--/, '')] = process.argv[i + 1]
}
const Hypercore = require('hypercore' + options.hypercore)
const folder = fs.mkdtempSync(path.join(process.env.KINLOG_BENCH_DIR || os.tmpdir(), 'npm-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

async function append () {
  const core = new Hypercore(folder)
  await core.ready()
  const [blocks, size, batch] = [options.blocks, options.size, options.batch].map(Number)
  const values = new Array(batch).fill(Buffer.alloc(size, 0x61))
  const started = process.hrtime.bigint()
  for (let at = 0; at < blocks; at += batch) {
    await core.append(batch === 1 ? values[0] : values)
  }
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  if (core.length !== blocks) throw new Error(`length ${core.length}, expected ${blocks}`)
  process.stdout.write(JSON.stringify({ seconds, blocks, bytes: blocks * size }) + '\n')
  await core.close()
  process.exit(0)
}

if (process.argv[2] !== 'append') throw new Error('say append')
append().catch((error) => { console.error(error); process.exit(1) })
