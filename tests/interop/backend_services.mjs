// npm openid-client as a backend service of SMART App Launch 2.2 that exports (Bulk Data Access 2).
// usage: node backend_services.mjs SETTINGS_JSON ; prints one JSON object of what it saw.
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'

const settings = JSON.parse(readFileSync(process.argv[2]))
const { jwk, client_id, fhir_base, scope, group, audience } = settings
const algorithm = jwk.kty === 'EC' ? { name: 'ECDSA', namedCurve: jwk.crv } : { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' }
const { alg, ...bare } = jwk
const key = await crypto.subtle.importKey('jwk', bare, algorithm, false, ['sign'])

// Backend services find the server by the FHIR base alone.
const found = await fetch(`${fhir_base}/.well-known/smart-configuration`).then((r) => r.json())
const authentication = client.PrivateKeyJwt({ key, kid: jwk.kid }, {
  [client.modifyAssertion]: (header, payload) => {
    payload.aud = audience ?? found.token_endpoint
    if (settings.jku) header.jku = settings.jku
    if (settings.lifetime) payload.exp = payload.iat + settings.lifetime
    delete payload.iat // neither is in SMART's list of claims
    delete payload.nbf
  },
})
const config = new client.Configuration(found, client_id, undefined, authentication)
const seen = { capabilities: found.capabilities, algorithms: found.token_endpoint_auth_signing_alg_values_supported }

let tokens
try {
  tokens = await client.clientCredentialsGrant(config, { scope })
} catch (error) {
  console.log(JSON.stringify({ ...seen, refused: error.error, description: error.error_description }))
  process.exit(0)
}
Object.assign(seen, { token_type: tokens.token_type, expires_in: tokens.expires_in, scope: tokens.scope, refresh: tokens.refresh_token ?? null })

const bearer = { authorization: `Bearer ${tokens.access_token}` }
const get = (url, headers = {}, method = 'GET') => fetch(url, { method, headers: { ...bearer, ...headers } })
const asked = (path) => client.fetchProtectedResource(config, tokens.access_token, new URL(fhir_base + path), 'GET')
seen.search = await asked('/Patient?_count=2').then(async (r) => [r.status, (await r.json()).entry.length])
seen.beyond = await asked('/Condition?_count=1').then((r) => r.status, (error) => error.response?.status ?? error.cause?.status)

const begin = { accept: 'application/fhir+json', prefer: 'respond-async' }
const kickOff = `${fhir_base}/Group/${group}/$export`
seen.without_token = await fetch(kickOff, { headers: begin }).then((r) => r.status)
const begun = await get(kickOff, begin)
const job = begun.headers.get('content-location')
seen.begun = [begun.status, job?.startsWith(`${fhir_base}/`)]
let status, waits = []
for (let asks = 0; asks < 20; asks++) {
  status = await get(job, { accept: 'application/json' })
  if (status.status !== 202) break
  waits.push(status.headers.get('retry-after'))
}
seen.waits = waits
const manifest = await status.json()
seen.status = [status.status, status.headers.get('content-type')]
seen.manifest = { members: Object.keys(manifest).sort(), requiresAccessToken: manifest.requiresAccessToken, here: manifest.output.every((o) => o.url.startsWith(`${fhir_base}/`)) }
seen.files = {}
for (const { type, url } of manifest.output) {
  const bare = await fetch(url)
  const file = await get(url, { accept: 'application/fhir+ndjson' })
  const lines = (await file.text()).trim().split('\n').map((line) => JSON.parse(line))
  seen.files[type] = {
    without_token: bare.status, status: file.status, type: file.headers.get('content-type'),
    types: [...new Set(lines.map((l) => l.resourceType))], patients: [...new Set(lines.map((l) => l.subject?.reference ?? `Patient/${l.id}`))].sort(),
  }
}
seen.ended = await get(job, {}, 'DELETE').then((r) => r.status)
seen.after = await get(job).then(async (r) => [r.status, (await r.json()).resourceType])
console.log(JSON.stringify(seen))
