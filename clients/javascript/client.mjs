/**
 * What clients of mitras (mitra.mjs) and of customers (customer.mjs) share: the protocol, version 1.
 * Plain JavaScript: browsers, and Node >= 18 with a WebSocket class such as `ws`.
 * @typedef {{sessions: object[], config: object, online?: boolean, wants_online?: boolean, pending?: boolean, offers?: object[], pairings?: object[]}} State
 *   of mitras all but `pairings`; of customers `pairings`, `sessions`, `config`; what is over is not in it
 * @typedef {object} Options
 * @property {string} url  ws(s):// or http(s)://; without a path it becomes that of the client, a ?status= in it is taken as `status`
 * @property {string | ((refused?: string) => string | Promise<string>)} token  asked for at every attempt; gets the token that was just refused, if one was
 * @property {'online' | 'offline'} [status]  mitras: a command of the first connection after `start()`; later ones keep the stored intent
 * @property {typeof WebSocket} [WebSocket]  by default the built-in one
 * @property {boolean} [headers]  true: the class takes `{ headers }` as its third argument, send Authorization (default: subprotocols)
 * @property {() => number} [random]  by default Math.random
 * @property {(message: object) => void} [onMessage]  every message of the server, unknown ones too
 * @property {(state: State) => void} [onState]
 * @property {(because: string) => void} [onStop]  it will not come back by itself: goodbye, deactivated, revoked, token, ...
 */

/** Close codes after which an app does not come back. */
const FINAL = { 1000: 'goodbye', 4501: 'revoked', 4502: 'deactivated', 4503: 'displaced', 4504: 'protocol_error' };
const GOING_AWAY = 1001, GOING_AWAY_IN_BROWSERS = 4000; // "I merely reconnect"; a page may say only 1000 and 3000-4999
const TOKEN_EXPIRED = 4001, LOST = 1006; // the latter: no close frame came
const HELLO_WITHIN_S = 10;
const OPEN = ['pending_payment', 'active']; // the states of sessions that go on
const failure = ({ message, code, field }) => Object.assign(new Error(message), { code, field });
/** Seconds of a Retry-After header: a number or a date. */
const retryAfter = (value) => (value === undefined ? 0 : Number.isNaN(+value) ? Math.max(0, (Date.parse(value) - Date.now()) / 1000) || 0 : +value);

/** A list with one member added or replaced by a newer one, or without it. */
const updated = (list, key, member, stays) => {
  const at = list.findIndex((one) => one[key] === member[key]);
  const [before, after] = at < 0 ? [list, []] : [list.slice(0, at), list.slice(at + 1)];
  return [...before, ...(stays ? [member] : []), ...after];
};

/** One socket: opens, beats, notices that the server is dead, closes. It decides nothing. */
class Link {
  hello = null; state = null; // what the server said first, and the last state heard on this socket
  token = null; // what it was opened with
  leaveWithin = null; // seconds, once the server asked for a reconnect
  refusal = null; // { status?, code?, retryAfter? } of a refused handshake
  over = false; // nothing it says counts any more
  #socket = null; #timer; #unanswered = false;
  /** @param {{message: (link: Link, message: object) => void, ended: (link: Link, code: number) => void}} owner */
  constructor(owner) { this.owner = owner; }

  open({ WebSocket, headers }, url, token) {
    this.token = token;
    const socket = this.#socket = headers ? new WebSocket(url, [], { headers: { Authorization: `Bearer ${token}` } }) : new WebSocket(url, ['hadir.v1', `bearer.${token}`]);
    this.#timer = setTimeout(() => this.owner.ended(this, LOST), HELLO_WITHIN_S * 1000);
    socket.onerror = () => {}; // a close event follows
    socket.onclose = ({ code }) => this.owner.ended(this, code);
    socket.onmessage = ({ data }) => {
      let message = null;
      try { message = JSON.parse(data); } catch { /* not for us */ }
      if (message?.type === 'pong') this.#unanswered = false;
      if (message?.type === 'error' && !this.hello) this.refusal = { code: message.code }; // how a browser is refused
      if (message?.type && !this.over) this.owner.message(this, message);
    };
    socket.on?.('unexpected-response', (_request, response) => { // how `ws` is refused; with a listener, ending it is up to us
      let body = '';
      this.refusal = { status: response.statusCode, retryAfter: retryAfter(response.headers['retry-after']) };
      response.on('data', (chunk) => { body += chunk; }).on('error', () => {}).on('close', () => {
        this.refusal.code = /"code"\s*:\s*"([^"]+)"/.exec(body)?.[1]; // of the problem document
        socket.terminate();
      });
    });
  }

  send(message) { if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message)); }

  /** Pings in `first` seconds and every `every` seconds from then on; a pong missing for that long is a dead server. */
  beat(first, every) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#unanswered) return this.owner.ended(this, LOST);
      this.#unanswered = true;
      this.send({ type: 'ping' });
      this.beat(every, every);
    }, first * 1000);
  }

  /** Closes with a code (once open, if it is not yet); resolved when closed, or after three seconds. */
  close(code) {
    this.#forget();
    const socket = this.#socket;
    if (!socket || socket.readyState === 3) return Promise.resolve();
    return new Promise((resolve) => {
      const deadline = setTimeout(() => { socket.terminate?.(); resolve(); }, 3000);
      const say = () => { try { socket.close(code); } catch { socket.close(GOING_AWAY_IN_BROWSERS); } };
      socket.onclose = () => { clearTimeout(deadline); resolve(); };
      if (socket.readyState === 0) socket.onopen = say; else say();
    });
  }

  /** Lets go without a goodbye and without waiting for the other side. */
  drop() {
    this.#forget();
    if (this.#socket?.terminate) this.#socket.terminate(); else this.#socket?.close();
  }
  #forget() { clearTimeout(this.#timer); this.over = true; }
}

export class Client {
  static path; // where its sockets are
  #options; #url; #token; #running = false; #state = null;
  #current = null; #next = null; // the Link in use, and the one being made, maybe beside it
  #timer = null; #attempts = 0; // until the next attempt; failed in a row
  #status; #refused; // the command for the next handshake, until it is carried out; the token that was refused last
  #waiting = new Map(); #serial = 0; // id -> { message, resolve, reject }
  #owner = { message: (link, message) => this.#message(link, message), ended: (link, code) => this.#ended(link, code) };

  /** @param {Options} options */
  constructor(options) {
    this.#token = async () => (typeof options.token === 'function' ? options.token(this.#refused) : options.token);
    this.#options = { ...options, WebSocket: options.WebSocket ?? globalThis.WebSocket, random: options.random ?? Math.random };
    if (!this.#options.WebSocket) throw new TypeError('no built-in WebSocket here: hand one in');
    this.#url = new URL(options.url);
    this.#url.protocol = this.#url.protocol.replace('http', 'ws');
    if (this.#url.pathname === '/') this.#url.pathname = new.target.path;
    this.#options.status ??= this.#url.searchParams.get('status') ?? undefined;
  }

  /** Whether there is a connection that had its `hello`. */
  get connected() { return this.#current !== null; }
  /** @returns {State | null} the last one known */
  get state() { return this.#state; }
  get connectionId() { return this.#current?.hello.connection_id ?? null; }
  /** Connects, and comes back after every loss until `goodbye()` or a final verdict. */
  start() {
    if (this.#running) return;
    this.#running = true;
    [this.#status, this.#attempts, this.#refused] = [this.#options.status, 0, undefined];
    this.#open();
  }

  /** Asks for the state. @returns {Promise<State>} */
  sync() { return this.request({ type: 'sync' }); }
  /** Resolved once it is over; rejected with the code `wrong_state` where it was over already. */
  endSession(session_id) { return this.request({ type: 'session.end', session_id }); }
  /** Sends a message; the same `client_id` again is the same message. @returns {Promise<object>} the message as it was stored */
  sendMessage(session_id, body, client_id = `${Date.now()}-${Math.random()}`) {
    return this.request({ type: 'chat.send', session_id, client_id, body });
  }
  /** Offline at once, and no coming back. Resolved when the sockets are closed. */
  goodbye() {
    const closing = [this.#next, this.#current].map((link) => link?.close(1000));
    this.#stop('goodbye');
    return Promise.all(closing);
  }

  /** Resolved by the answer, rejected by `error`. Sent (again) after a lost connection. */
  request(fields) {
    if (fields.type === 'status') this.#status = undefined; // this is the newer command
    if (!this.#running) return Promise.reject(failure({ code: 'stopped', message: 'the client is stopped' }));
    const message = { ...fields, id: `m${++this.#serial}` };
    const promise = new Promise((resolve, reject) => this.#waiting.set(message.id, { message, resolve, reject }));
    promise.catch(() => {}); // who does not look need not handle it
    this.#current?.send(message);
    return promise;
  }

  #answer(id, error, value) {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) request?.reject(failure(error)); else request?.resolve(value);
  }

  async #open() {
    const link = (this.#next = new Link(this.#owner));
    try {
      const token = await this.#token();
      if (link.over) return;
      if (token === this.#refused) return this.#stop('token'); // another one was needed
      if (this.#status) this.#url.searchParams.set('status', this.#status); else this.#url.searchParams.delete('status');
      link.open(this.#options, this.#url.href, token);
    } catch { this.#ended(link, LOST); } // no token to be had now: an attempt that failed
  }

  #message(link, message) {
    this.#options.onMessage?.(message);
    if (link.over) return; // the callback said goodbye
    const { random } = this.#options;
    switch (message.type) {
      case 'hello':
        [link.hello, link.state] = [message, message.state];
        [this.#attempts, this.#refused] = [0, undefined];
        link.beat(message.heartbeat_interval_s * random(), message.heartbeat_interval_s);
        return this.#learned(link);
      case 'sync':
        link.state = message.state;
        this.#answer(message.re, null, message.state);
        return this.#learned(link);
      case 'ack': return this.#answer(message.re, null, message.message);
      case 'error': return this.#answer(message.re, message);
      case 'token.expiring': return this.#refresh(link);
      case 'reconnect':
        link.leaveWithin = Math.min((message.after_ms ?? 0) / 1000, 20); // after 30 seconds it ends in 4005
        if (link === this.#current) this.#plan(random() * link.leaveWithin);
        return;
      case 'offer.result': this.#answer(message.re, null, message);
    }
    const news = link.state && this.#news(link.state, message);
    if (news) {
      link.state = { ...link.state, ...news };
      this.#learned(link);
    } // anything else is unknown, and ignored
  }

  /** What a message changes of the state; undefined: nothing. */
  #news({ offers = [], sessions, pairings }, { type, result, reason, session, pairing, message, config, ...offer }) {
    switch (type) {
      case 'config.updated': return { config };
      case 'offer': return { offers: updated(offers, 'pairing_id', offer, true) };
      case 'offer.closed': return { offers: updated(offers, 'pairing_id', offer, false) };
      case 'offer.result': return result === 'busy' ? undefined : { offers: updated(offers, 'pairing_id', offer, false) };
      case 'pairing.updated': return { pairings: updated(pairings, 'id', pairing, pairing.status === 'searching') };
      case 'session.updated': {
        const known = sessions.find(({ id }) => id === session.id);
        const left = !pairings && known && known.mitra_id !== session.mitra_id; // handed over to another mitra
        return { sessions: updated(sessions, 'id', session, OPEN.includes(session.status) && !left) };
      }
      case 'chat.message':
        return { sessions: sessions.map((one) => (one.id === message.session_id ? { ...one, messages: message.seq } : one)) };
    }
  }

  /** This link's state is news: maybe it can take over now. */
  #learned(link) {
    if (link === this.#next && link.hello && (!this.#current || !link.state.pending)) {
      this.#current?.close(GOING_AWAY);
      [this.#current, this.#next] = [link, null];
      for (const { message } of this.#waiting.values()) link.send(message); // what the last one left unanswered
      if (link.leaveWithin !== null) this.#plan(this.#options.random() * link.leaveWithin);
    }
    if (link !== this.#current) return;
    if (!link.state.pending) this.#status = undefined; // carried out: from now on the stored intent holds
    this.#state = link.state;
    this.#options.onState?.(this.#state);
  }

  async #refresh(link) {
    try {
      const token = await this.#token();
      if (!link.over && token !== link.token) link.send({ type: 'token.refresh', token });
    } catch { /* 4001 will follow, and then it is asked for again */ }
  }

  #ended(link, code) {
    if (link.over) return;
    link.drop();
    if (link === this.#next) this.#next = null; else this.#current = null;
    const { status, code: why, retryAfter: atLeast = 0 } = link.refusal ?? {};
    if (FINAL[code] || status === 403) return this.#stop(why ?? FINAL[code] ?? 'forbidden');
    if (code === TOKEN_EXPIRED || status === 401) this.#refused = link.token;
    if (this.#next) return void (this.#next.hello && this.#learned(this.#next)); // it was not the newest (4006, say): all rests with the next
    const jitter = (seconds) => this.#options.random() * seconds;
    this.#plan(link.hello ? jitter(link.hello.reconnect_window_s) : Math.max(atLeast, jitter(Math.min(30, 0.5 * 2 ** ++this.#attempts))));
  }

  /** The next attempt, in so many seconds, unless one is planned or under way. */
  #plan(seconds) {
    if (this.#timer || this.#next || !this.#running) return;
    this.#timer = setTimeout(() => { this.#timer = null; this.#open(); }, seconds * 1000);
  }

  #stop(because) {
    if (!this.#running) return;
    this.#running = false;
    clearTimeout(this.#timer);
    for (const link of [this.#current, this.#next]) if (link && !link.over) link.drop();
    this.#timer = this.#current = this.#next = null;
    for (const id of [...this.#waiting.keys()]) this.#answer(id, { code: 'stopped', message: `stopped: ${because}` });
    this.#options.onStop?.(because);
  }
}
