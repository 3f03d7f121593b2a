// Runs inside a page: the browser's own WebSocket against the server; `window.happened` collects what happens.
window.happened = [];
window.sockets = [];
window.connect = (url, token) => {
  const mine = window.sockets.length + 1;
  const socket = new WebSocket(url, ["hadir.v1", "bearer." + token]);
  window.sockets.push(socket);
  socket.onopen = () => window.happened.push({ event: "open", socket: mine, protocol: socket.protocol });
  socket.onmessage = (m) => window.happened.push({ event: "message", socket: mine, message: JSON.parse(m.data) });
  socket.onclose = (c) => window.happened.push({ event: "close", socket: mine, code: c.code, reason: c.reason });
};
