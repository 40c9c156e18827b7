// npm oauth4webapi, the low-level library: each step by hand, the server's nonce asked for and answered, a refusal by
// the person, and a revocation that counts at once.
// usage: node oauth4webapi.mjs DEMO_JSON CLIENT_NAME USERNAME ; prints one JSON object of what it saw.
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'
import { Agent, fetch as undiciFetch } from 'undici'
import { Person } from './person.mjs'

const [demoFile, clientName, username] = process.argv.slice(2)
const demo = JSON.parse(readFileSync(demoFile))
const registered = demo.clients.find((c) => c.name === clientName)
const user = demo.users.find((u) => u.username === username)
const ca = readFileSync(demo.ca_certificate)
const mtls = registered.token_endpoint_auth_method === 'tls_client_auth'
const connect = mtls ? { ca, cert: readFileSync(registered.certificate), key: readFileSync(registered.certificate_key) } : { ca }
const dispatcher = new Agent({ connect })
const customFetch = (url, init) => undiciFetch(url, { ...init, dispatcher })
const browserFetch = (url, init) => undiciFetch(url, { ...init, dispatcher: new Agent({ connect: { ca } }) })
const options = { [oauth.customFetch]: customFetch }

const issuer = new URL(demo.issuer)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...options }))
const client = { client_id: registered.client_id, use_mtls_endpoint_aliases: mtls }
let authentication = oauth.TlsClientAuth()
if (!mtls) {
  const { use, key_ops, alg, kid, ...bare } = registered.jwks.keys[0]
  const key = await crypto.subtle.importKey('jwk', bare, { name: 'ECDSA', namedCurve: bare.crv }, false, ['sign'])
  authentication = oauth.PrivateKeyJwt({ key, kid })
}
const DPoP = mtls ? undefined : oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
const seen = { challenges: [] }

// The server asks for its nonce once; the library remembers it.
async function answering(where, act) {
  try {
    return await act()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    seen.challenges.push(where)
    return act()
  }
}

async function authorize(choice) {
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const parameters = new URLSearchParams({
    response_type: 'code', client_id: client.client_id, redirect_uri: registered.redirect_uris[0], state,
    scope: 'launch/patient patient/*.rs', code_challenge_method: 'S256',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  })
  const pushed = await answering('par', async () =>
    oauth.processPushedAuthorizationResponse(as, client, await oauth.pushedAuthorizationRequest(as, client, authentication, parameters, { DPoP, ...options })))
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri })
  return { verifier, state, answer: await new Person(browserFetch).authorize(url.href, user, choice) }
}

const refused = await authorize({ deny: true })
try {
  oauth.validateAuthResponse(as, client, refused.answer, refused.state)
} catch (error) {
  seen.denied = { error: error.error, iss: error.cause.get('iss') }
}

const allowed = await authorize({})
const callback = oauth.validateAuthResponse(as, client, allowed.answer, allowed.state)
const tokens = await answering('token', async () =>
  oauth.processAuthorizationCodeResponse(as, client,
    await oauth.authorizationCodeGrantRequest(as, client, authentication, callback, registered.redirect_uris[0], allowed.verifier, { DPoP, ...options })))
seen.patient = tokens.patient

const base = mtls ? demo.fhir_base_mtls : demo.fhir_base
async function get(path) {
  try {
    return await answering('resource', async () => {
      const response = await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL(base + path), undefined, undefined, { DPoP, ...options })
      await response.text()
      return response.status
    })
  } catch (error) {
    if (error instanceof oauth.WWWAuthenticateChallengeError) return error.status
    throw error
  }
}
const other = demo.users.find((u) => u.patient && u.patient !== user.patient).patient
seen.own = await get(`/Patient/${user.patient}`)
seen.other = await get(`/Patient/${other}`)
await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authentication, tokens.access_token, options))
seen.revoked = await get(`/Patient/${user.patient}`)
console.log(JSON.stringify(seen))
process.exit(0)
