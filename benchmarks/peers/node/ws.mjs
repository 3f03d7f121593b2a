// Node's `ws` and ioredis, beats batched as Hadir batches them.
import { createServer } from 'node:http'
import { Redis } from 'ioredis'
import { WebSocketServer } from 'ws'
import { TOO_FAST, asked, beatsTo, bodyOf, pong, verifierOf } from './mitra.mjs'

const CHANNEL = 'peers:events'
const { port, valkeyUrl, secret } = asked()
const mitraOf = verifierOf(secret)
const valkey = new Redis(valkeyUrl)
const beat = beatsTo(valkey)
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 65536 })

// One listener for all sockets: their state hangs on the socket itself.
function onMessage(data) {
  const message = JSON.parse(data)
  if (!this.mitra.beats()) {
    this.send(JSON.stringify(TOO_FAST))
  } else if (message.type === 'ping') {
    beat(this.mitra.mitraId)
    this.send(JSON.stringify(pong()))
  }
}

function onError() {
  this.terminate()
}

const server = createServer(async (request, response) => {
  await valkey.publish(CHANNEL, await bodyOf(request))
  response.writeHead(204).end()
})

server.on('upgrade', (request, connection, head) => {
  const mitra = mitraOf(request)
  if (mitra === undefined) {
    connection.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    return
  }
  sockets.handleUpgrade(request, connection, head, (socket) => {
    socket.mitra = mitra
    socket.on('message', onMessage)
    socket.on('error', onError)
    socket.send(JSON.stringify(mitra.hello()))
  })
})

const events = valkey.duplicate()
events.on('messageBuffer', (_, message) => {
  for (const socket of sockets.clients) socket.send(message, { binary: false })
})
await events.subscribe(CHANNEL)
server.listen({ port, host: '127.0.0.1', backlog: 2048 })
