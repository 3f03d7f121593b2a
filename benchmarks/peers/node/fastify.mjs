// Fastify with the beacon that Hadir replaces: SDIFF, a pipeline of GETs, the answer kept for ten seconds.
import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { asked } from './mitra.mjs'

const KEPT_S = 10
const STALE_MS = 60_000
const MAX_SESSIONS = 1
const SNAPSHOT = 'availability:snapshot'
const { port, valkeyUrl } = asked()
const valkey = new Redis(valkeyUrl)

const count = async () => {
  const [ids, online] = await Promise.all([
    valkey.sdiff('mitras:online', 'mitras:deactivated'), valkey.scard('mitras:online'),
  ])
  const pipeline = valkey.pipeline()
  for (const id of ids) pipeline.get(`mitra:heartbeat:${id}`).get(`mitra:capacity:${id}`)
  const found = await pipeline.exec()
  const now = Date.now()
  let available = 0
  for (let n = 0; n < found.length; n += 2) {
    const [beat, sessions] = [found[n][1], found[n + 1][1]]
    if (beat !== null && now - Date.parse(beat) < STALE_MS && Number(sessions ?? 0) < MAX_SESSIONS) available += 1
  }
  return JSON.stringify({
    available, online, as_of: new Date(now).toISOString(), max_age_s: KEPT_S, state: 'live',
  })
}

// The process keeps the answer as long as the cluster does: not even a GET is left for most requests.
let kept = { until: 0 }
let counting
const refresh = async () => {
  let body = await valkey.get(SNAPSHOT)
  if (body === null) {
    body = await count()
    await valkey.set(SNAPSHOT, body, 'EX', KEPT_S)
  }
  const etag = `"${createHash('sha1').update(body).digest('base64url')}"`
  kept = { body, etag, until: Date.parse(JSON.parse(body).as_of) + KEPT_S * 1000 }
  counting = undefined
}

const app = Fastify({ logger: false })
app.get('/api/beacon', async (request, reply) => {
  const now = Date.now()
  if (now >= kept.until) await (counting ??= refresh())
  reply.headers({
    'access-control-allow-origin': '*',
    'cache-control': `public, max-age=${Math.max(0, Math.floor((kept.until - now) / 1000))}`,
    etag: kept.etag,
  })
  if (request.headers['if-none-match'] === kept.etag) return reply.code(304).send()
  return reply.type('application/json').send(kept.body)
})
await app.listen({ port, host: '127.0.0.1', backlog: 2048 })
