// The beacon as the product's ancestor counted it: SDIFF and pipelined GETs, kept for ten seconds.   node fastify.js PORT VALKEY_URL
'use strict';
const { createHash } = require('node:crypto');
const Fastify = require('fastify');
const Redis = require('ioredis');

const [port, valkeyUrl] = process.argv.slice(2);
const KEPT_MS = 10_000, MAX_SESSIONS = 1;
const valkey = new Redis(valkeyUrl);
const app = Fastify();
let kept = { until: 0 }, counting = null;

async function count() {
  const ids = await valkey.sdiff('mitras:online', 'mitras:deactivated');
  const pipeline = valkey.pipeline();
  for (const id of ids) pipeline.get(`mitra:heartbeat:${id}`).get(`mitra:capacity:${id}`);
  const answers = await pipeline.exec();
  let available = 0;
  for (let n = 0; n < ids.length; n++) {
    if (answers[2 * n][1] !== null && Number(answers[2 * n + 1][1] ?? 0) < MAX_SESSIONS) available++;
  }
  const body = JSON.stringify({ available, online: ids.length, as_of: new Date().toISOString(), max_age_s: 10, state: 'live' });
  kept = { body, etag: `"${createHash('sha1').update(body).digest('base64url')}"`, until: Date.now() + KEPT_MS };
}

app.get('/api/beacon', async (request, reply) => {
  if (Date.now() >= kept.until) await (counting ??= count().finally(() => { counting = null; }));
  const maxAge = Math.max(0, Math.floor((kept.until - Date.now()) / 1000));
  reply.header('cache-control', `public, max-age=${maxAge}`).header('etag', kept.etag).header('access-control-allow-origin', '*');
  if (request.headers['if-none-match'] === kept.etag) return reply.code(304).send();
  return reply.type('application/json').send(kept.body);
});

app.listen({ port: Number(port), host: '127.0.0.1' });
