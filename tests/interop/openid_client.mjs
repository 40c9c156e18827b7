// npm openid-client v6 does the whole flow from metadata alone: PAR, PKCE, DPoP with the server's nonce or mutual TLS.
// usage: node openid_client.mjs DEMO_JSON CLIENT_NAME USERNAME ; prints one JSON object of what it saw.
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { Agent, fetch as undiciFetch } from 'undici'
import { Person } from './person.mjs'

const [demoFile, clientName, username] = process.argv.slice(2)
const demo = JSON.parse(readFileSync(demoFile))
const registered = demo.clients.find((c) => c.name === clientName)
const user = demo.users.find((u) => u.username === username)
const ca = readFileSync(demo.ca_certificate)
const mtls = registered.token_endpoint_auth_method === 'tls_client_auth'
const dispatcher = new Agent({
  connect: mtls ? { ca, cert: readFileSync(registered.certificate), key: readFileSync(registered.certificate_key) } : { ca },
})
const plainFetch = (url, init) => undiciFetch(url, { ...init, dispatcher: new Agent({ connect: { ca } }) })
const customFetch = (url, init) => undiciFetch(url, { ...init, dispatcher })

let authentication = client.TlsClientAuth()
let signingKey
if (!mtls) {
  const jwk = registered.jwks.keys[0]
  const algorithm = jwk.kty === 'EC' ? { name: 'ECDSA', namedCurve: jwk.crv } : jwk.kty === 'RSA' ? { name: 'RSA-PSS', hash: 'SHA-256' } : { name: 'Ed25519' }
  const { use, key_ops, alg, ...bare } = jwk
  const key = await crypto.subtle.importKey('jwk', bare, algorithm, false, ['sign'])
  signingKey = { key, kid: jwk.kid }
  authentication = client.PrivateKeyJwt(signingKey)
}
const config = await client.discovery(
  new URL(demo.issuer),
  registered.client_id,
  { use_mtls_endpoint_aliases: mtls },
  authentication,
  { algorithm: 'oauth2', [client.customFetch]: customFetch },
)
config[client.customFetch] = customFetch
const signed = registered.name === 'portal-signed'
if (signed) client.useJwtResponseMode(config)
const seen = { issuer: config.serverMetadata().issuer }
const DPoP = mtls ? undefined : client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))

let tokens
if (registered.redirect_uris?.length) {
  const code_verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  let parameters = new URLSearchParams({
    redirect_uri: registered.redirect_uris[0],
    scope: registered.scope,
    code_challenge: await client.calculatePKCECodeChallenge(code_verifier),
    code_challenge_method: 'S256',
    state,
  })
  if (signed) {
    const asObject = await client.buildAuthorizationUrlWithJAR(config, parameters, signingKey)
    parameters = new URLSearchParams({ request: asObject.searchParams.get('request') })
  }
  const url = await client.buildAuthorizationUrlWithPAR(config, parameters, { DPoP })
  seen.authorization_parameters = [...url.searchParams.keys()].sort()
  const answer = await new Person(plainFetch).authorize(url.href, user)
  seen.answer_parameters = [...answer.searchParams.keys()].sort()
  tokens = await client.authorizationCodeGrant(config, answer, { pkceCodeVerifier: code_verifier, expectedState: state }, undefined, { DPoP })
} else {
  tokens = await client.clientCredentialsGrant(config, { scope: registered.scope }, { DPoP })
}
seen.token_type = tokens.token_type
seen.scope = tokens.scope
seen.patient = tokens.patient
seen.expires_in = tokens.expires_in

const base = mtls ? demo.fhir_base_mtls : demo.fhir_base
const get = async (path, token = tokens.access_token) => {
  // An uncaught 4xx is an answer that we want to see, not an exception.
  try {
    const response = await client.fetchProtectedResource(config, token, new URL(base + path), 'GET', undefined, new Headers({ accept: 'application/fhir+json' }), { DPoP })
    return { status: response.status, body: await response.json() }
  } catch (error) {
    const response = error.response ?? error.cause
    return { status: response?.status ?? 0, error: String(error) }
  }
}
const own = user?.patient ?? demo.users.find((u) => u.patient).patient
const other = demo.users.find((u) => u.patient && u.patient !== own).patient
seen.own = await get(`/Patient/${own}`).then((r) => ({ status: r.status, id: r.body?.id }))
seen.search = await get('/Observation?_count=5').then((r) => ({
  status: r.status,
  entries: r.body?.entry?.length,
  subjects: [...new Set((r.body?.entry ?? []).map((e) => e.resource.subject?.reference))],
}))
seen.other = await get(`/Patient/${other}`).then((r) => ({ status: r.status }))
if (tokens.refresh_token) {
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
  seen.refreshed = await get(`/Patient/${own}`, refreshed.access_token).then((r) => ({ status: r.status, id: r.body?.id }))
}
const archive = demo.clients.find((c) => c.name === 'resource-server')
if (!mtls) {
  const { use, key_ops, alg, ...bare } = archive.jwks.keys[0]
  const key = await crypto.subtle.importKey('jwk', bare, { name: 'ECDSA', namedCurve: bare.crv }, false, ['sign'])
  const asker = await client.discovery(new URL(demo.issuer), archive.client_id, undefined, client.PrivateKeyJwt({ key, kid: archive.jwks.keys[0].kid }), { algorithm: 'oauth2', [client.customFetch]: customFetch })
  asker[client.customFetch] = customFetch
  const known = await client.tokenIntrospection(asker, tokens.access_token)
  await client.tokenRevocation(config, tokens.access_token)
  seen.introspected = { active: known.active, client_id: known.client_id, after: (await client.tokenIntrospection(asker, tokens.access_token)).active }
}
console.log(JSON.stringify(seen))
await dispatcher.close()
process.exit(0)
