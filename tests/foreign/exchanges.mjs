/**
 * node exchanges.mjs URL TOKEN [ROLE]: drives a MitraClient, with ROLE customer a CustomerClient, by JSON lines on stdin, tells what happens by JSON lines on stdout.
 *
 * Commands: {"do":"start","status"?:"online"|"offline"}, {"do":"call","name":"…","args":[…]} (a method), {"do":"raw","text":"…"},
 *   {"do":"goodbye"}, {"do":"exit"} (drops the connection, unless a goodbye is under way), {"do":"token","token":"…"} (the next token to use).
 * Events: message, state, closed (every socket, also a refused one: 1006), refused (HTTP status), stopped, answered (to "call"), bad_command.
 */
import { createInterface } from 'node:readline';
import WebSocket from 'ws';
import { CustomerClient } from '../../clients/javascript/customer.mjs';
import { MitraClient } from '../../clients/javascript/mitra.mjs';

const [url, firstToken, role] = process.argv.slice(2);
const Client = role === 'customer' ? CustomerClient : MitraClient;
if (!url || !firstToken) {
  console.error('usage: node exchanges.mjs URL TOKEN [ROLE]');
  process.exit(2);
}

const tell = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

/** Tells how every socket ends, and remembers them for `raw`. */
const sockets = [];
class WatchedWebSocket extends WebSocket {
  constructor(...args) {
    super(...args);
    sockets.push(this);
    this.on('close', (code) => tell('closed', { code }));
    this.on('unexpected-response', (_request, response) => tell('refused', { status: response.statusCode }));
  }
}

let token = firstToken;
let client = null;
let leaving = Promise.resolve();

const commands = {
  start({ status }) {
    client = new Client({
      url,
      status,
      token: () => token,
      WebSocket: WatchedWebSocket,
      headers: true,
      onMessage: (message) => tell('message', { message }),
      onState: (state) => tell('state', { state, connection_id: client.connectionId }),
      onStop: (because) => { tell('stopped', { because }); client = null; },
    });
    client.start();
  },
  call({ name, args }) {
    if (!client) return tell('answered', { ok: false, error: { code: 'stopped', message: 'not started' } });
    client[name](...args).then(
      (value) => tell('answered', { ok: true, value: value ?? null, error: null }),
      ({ code, message, field }) => tell('answered', { ok: false, error: { code, message, field } }),
    );
  },
  raw({ text }) {
    const socket = sockets.filter((one) => one.readyState === WebSocket.OPEN).at(-1);
    if (socket) socket.send(text); else tell('bad_command', { because: 'no open socket' });
  },
  goodbye() { if (client) leaving = client.goodbye(); },
  token(command) { token = command.token; },
  exit() { leaving.then(() => process.exit(0)); },
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (!line.trim()) return;
  try {
    const command = JSON.parse(line);
    if (command.do === 'start' && client) return;
    commands[command.do](command);
  } catch (error) {
    tell('bad_command', { because: error.message, line });
  }
});
lines.on('close', commands.exit);
