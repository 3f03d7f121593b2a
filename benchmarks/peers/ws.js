// Node: ws and ioredis, the beats of 200 ms written together.   node ws.js PORT VALKEY_URL SECRET
'use strict';
const { randomBytes } = require('node:crypto');
const http = require('node:http');
const Redis = require('ioredis');
const jwt = require('jsonwebtoken');
const { WebSocketServer } = require('ws');

const [port, valkeyUrl, secret] = process.argv.slice(2);
const FLUSH_MS = 200, STALE_S = 60, FRAMES_PER_S = 5, FRAMES_BURST = 20;
const valkey = new Redis(valkeyUrl);
const mitras = new Map();
let beaten = new Set();

const server = http.createServer((request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false, maxPayload: 65536 });

server.on('upgrade', (request, stream, head) => {
  let claims;
  try {
    claims = jwt.verify((request.headers.authorization || '').slice('Bearer '.length), secret, { algorithms: ['HS256'] });
  } catch {
    stream.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, stream, head, (socket) => {
    const mitra = {
      socket, mitraId: claims.sub, sid: claims.sid, tokenEnds: claims.exp,
      connectionId: randomBytes(8).toString('hex'), lastBeat: performance.now(), framesLeft: FRAMES_BURST,
    };
    mitras.set(mitra.connectionId, mitra);
    socket.on('message', (data) => heard(mitra, data));
    socket.on('close', () => mitras.delete(mitra.connectionId));
    socket.on('error', () => socket.terminate());
    socket.send(JSON.stringify({ type: 'hello', connection_id: mitra.connectionId, server_time: new Date().toISOString() }));
  });
});

function heard(mitra, data) {
  const now = performance.now();
  mitra.framesLeft = Math.min(FRAMES_BURST, mitra.framesLeft + ((now - mitra.lastBeat) / 1000) * FRAMES_PER_S) - 1;
  mitra.lastBeat = now;
  if (mitra.framesLeft < 0 || JSON.parse(data).type !== 'ping') return;
  beaten.add(mitra);
  mitra.socket.send(JSON.stringify({ type: 'pong', server_time: new Date().toISOString() }));
}

setInterval(async () => {
  if (beaten.size === 0) return;
  const batch = beaten;
  beaten = new Set();
  const at = new Date(), iso = at.toISOString(), scores = [], pipeline = valkey.pipeline();
  for (const mitra of batch) {
    scores.push(at.getTime(), mitra.mitraId);
    pipeline.set(`mitra:heartbeat:${mitra.mitraId}`, iso, 'EX', STALE_S);
  }
  pipeline.zadd('mitras:heartbeats', ...scores);
  await pipeline.exec();
}, FLUSH_MS);

server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
