// A mitra's app on Node's `ws`: reads commands from stdin as JSON lines, writes what happens as JSON lines.
// Commands: {send: text} {ping: true} {close: code} {terminate: true} {connect: {url, token}}
const WebSocket = require("ws");
const readline = require("readline");

let socket = null;
let number = 0;

const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

function connect({ url, token }) {
  const mine = ++number;
  const opened = new WebSocket(url, { headers: { Authorization: `Bearer ${token}` }, perMessageDeflate: true });
  opened.on("open", () => { socket = opened; tell({ event: "open", socket: mine, extensions: opened.extensions }); });
  opened.on("message", (data) => tell({ event: "message", socket: mine, message: JSON.parse(data) }));
  opened.on("pong", () => tell({ event: "pong", socket: mine }));
  opened.on("close", (code, reason) => tell({ event: "close", socket: mine, code, reason: reason.toString() }));
  opened.on("unexpected-response", (_, response) => tell({ event: "refused", socket: mine, status: response.statusCode }));
  opened.on("error", () => {});
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.connect) connect(command.connect);
  if (command.send) socket.send(command.send);
  if (command.ping) socket.ping();
  if (command.close) socket.close(command.close);
  if (command.terminate) socket.terminate();
}).on("close", () => process.exit(0));
