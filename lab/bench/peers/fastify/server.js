// Fastify and node-postgres with the duties of the service beside them: a log line for each
// request, an ETag and the 304 that goes with it, a request id that is taken, echoed and logged.

import { createHash, randomUUID } from 'node:crypto'
import fastifyEtag from '@fastify/etag'
import Fastify from 'fastify'
import pg from 'pg'

const { DATABASE_URL, PORT } = process.env
const CONNECTIONS = Number(process.env.CONNECTIONS ?? 32)
const PIPELINE = process.env.PIPELINE === '1'

const problem = (status, title) => ({ type: 'about:blank', title, status })

const record = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    owner: { type: 'string' },
    repo_name: { type: 'string' },
    stars: { type: 'integer' }
  }
}

const app = Fastify({
  logger: { level: 'info' },
  disableRequestLogging: true, // One line for each request, below, in place of two.
  requestIdHeader: 'x-request-id',
  genReqId: () => randomUUID()
})
await app.register(fastifyEtag, {
  hashFn: (payload) => createHash('md5').update(payload).digest('hex')
})

app.addHook('onRequest', (request, reply, done) => {
  reply.header('x-request-id', request.id)
  done()
})
app.addHook('onResponse', (request, reply, done) => {
  request.log.info({
    method: request.method,
    route: request.routeOptions.url,
    path: request.url,
    status: reply.statusCode,
    ms: reply.elapsedTime
  }, 'request')
  done()
})

const database = await connect()

app.get('/repos/:id', {
  schema: {
    params: { type: 'object', properties: { id: { type: 'string', format: 'uuid' } } },
    response: { 200: record }
  }
}, async (request, reply) => {
  const { rows } = await database.query({
    name: 'read',
    text: 'SELECT id, owner, repo_name, stars FROM repositories WHERE id = $1',
    values: [request.params.id]
  })
  if (rows.length === 0) return reply.code(404).send(problem(404, 'Not found'))
  reply.header('cache-control', 'no-cache')
  return rows[0]
})

await app.listen({ host: '127.0.0.1', port: Number(PORT) })

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await app.close()
    await database.end()
  })
}

// A pool of connections, or a few that the queries share, each sent before the last is answered.
async function connect () {
  if (!PIPELINE) {
    return new pg.Pool({ connectionString: DATABASE_URL, max: CONNECTIONS })
  }
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
    const client = new pg.Client({ connectionString: DATABASE_URL, pipeline: true })
    await client.connect()
    return client
  }))
  let next = 0
  return {
    query: (query) => clients[next++ % CONNECTIONS].query(query),
    end: () => Promise.all(clients.map((client) => client.end()))
  }
}
