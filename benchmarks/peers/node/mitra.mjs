// What every peer on Node does for a mitra's socket, whatever library carries it.
import { randomUUID } from 'node:crypto'
import { createVerifier } from 'fast-jwt'

const FRAMES_PER_S = 5
const FRAMES_BURST = 20
const STALE_S = 60
const FLUSH_MS = 200
const CHUNK = 1000 // beats in one command: some 2 ms of Valkey

export const asked = () => {
  const [port, valkeyUrl, secret] = process.argv.slice(2)
  return { port: Number(port), valkeyUrl, secret }
}

// The state of one socket: what Hadir keeps of it too.
export class Mitra {
  constructor(claims) {
    const now = performance.now()
    this.mitraId = claims.sub
    this.sessionId = claims.sid
    this.connectionId = randomUUID()
    this.tokenEnds = now + claims.exp * 1000 - Date.now()
    this.lastBeat = now
    this.framesAt = now
    this.framesLeft = FRAMES_BURST
  }

  // Takes one frame from the budget; whether there was one left.
  beats() {
    const now = performance.now()
    this.framesLeft = Math.min(FRAMES_BURST, this.framesLeft + ((now - this.framesAt) / 1000) * FRAMES_PER_S) - 1
    this.framesAt = now
    if (this.framesLeft < 0) {
      this.framesLeft = 0
      return false
    }
    this.lastBeat = now
    return true
  }

  hello() {
    return {
      type: 'hello',
      connection_id: this.connectionId,
      heartbeat_interval_s: 20,
      stale_after_s: STALE_S,
      reconnect_window_s: 7.5,
      server_time: new Date().toISOString(),
      token_ttl_s: Math.round((this.tokenEnds - performance.now()) / 1000),
      limits: { frame_bytes: 16384, frames_per_s: FRAMES_PER_S, frames_burst: FRAMES_BURST },
      state: { online: true, pending: false, offers: [], sessions: [], config: {} },
    }
  }
}

export const pong = () => ({ type: 'pong', server_time: new Date().toISOString() })
export const TOO_FAST = {
  type: 'error', code: 'too_fast', message: 'At most 5 frames a second, 20 at once, are allowed.',
}

// Answers whose handshake a request is; undefined for a bad token or none.
export const verifierOf = (secret) => {
  const verify = createVerifier({
    key: secret,
    algorithms: ['HS256'],
    clockTolerance: 10_000,
    requiredClaims: ['sub', 'role', 'sid', 'exp', 'iat'],
  })
  return (request) => {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ')
    try {
      const claims = verify(token)
      return scheme.toLowerCase() === 'bearer' && claims.role === 'mitra' ? new Mitra(claims) : undefined
    } catch {
      return undefined
    }
  }
}

// Write-behind, as Hadir's is: the beats of 200 ms go to Valkey together, in one command a thousand of them.
export const beatsTo = (valkey) => {
  let beaten = new Set()
  const flush = () => {
    const ids = [...beaten]
    beaten = new Set()
    const now = new Date().toISOString()
    for (let start = 0; start < ids.length; start += CHUNK) {
      const part = ids.slice(start, start + CHUNK)
      const words = [part.length]
      for (const id of part) words.push(`mitra:heartbeat:${id}`, now)
      valkey.call('MSETEX', ...words, 'EX', STALE_S)
    }
  }
  return (mitraId) => {
    if (beaten.size === 0) setTimeout(flush, FLUSH_MS)
    beaten.add(mitraId)
  }
}

// The whole body of a request.
export const bodyOf = async (request) => {
  const parts = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts)
}
