// Socket.IO 4 with @socket.io/redis-adapter, over WebSocket alone; a beat is an event with an acknowledgement.
import { createServer } from 'node:http'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { TOO_FAST, asked, beatsTo, bodyOf, pong, verifierOf } from './mitra.mjs'

const NEVER_MS = 10 * 86_400_000
const { port, valkeyUrl, secret } = asked()
const mitraOf = verifierOf(secret)
const valkey = new Redis(valkeyUrl)
const beat = beatsTo(valkey)

const server = createServer(async (request, response) => {
  sockets.emit('event', (await bodyOf(request)).toString())
  response.writeHead(204).end()
})

const sockets = new Server(server, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  pingInterval: NEVER_MS, // presence is the client's beat; ours sends no pings either
  adapter: createAdapter(valkey, valkey.duplicate()),
  allowRequest: (request, decide) => {
    request.mitra = mitraOf(request)
    decide(request.mitra === undefined ? 'unauthorised' : null, request.mitra !== undefined)
  },
})

sockets.on('connection', (socket) => {
  const mitra = socket.data = socket.request.mitra
  socket.on('ping', (answer) => {
    if (mitra.beats()) {
      beat(mitra.mitraId)
      answer(pong())
    } else {
      answer(TOO_FAST)
    }
  })
  socket.emit('hello', mitra.hello())
})

server.listen({ port, host: '127.0.0.1', backlog: 2048 })
