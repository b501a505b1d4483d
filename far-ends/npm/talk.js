// What far ends say: a JSON object a line on stdout; an error is the last.
'use strict'

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const fail = (error) => {
  say({ error: String(error && error.stack ? error.stack : error) })
  process.exit(1)
}
process.on('uncaughtException', fail)
process.on('unhandledRejection', fail)

module.exports = { say, fail }
