// A public app that keeps its tokens to a key which never leaves this browser: oauth4webapi, PKCE, DPoP with the nonces
// of both servers. `seen` and `act` are for the test.
import * as oauth from '/oauth4webapi.js'

const { issuer, fhir_base, client_id, scope } = window.SETTINGS
const redirect_uri = `${location.origin}/dpop.html`
const seen = window.seen = { challenges: [], reads: 0 }
const client = { client_id, id_token_signed_response_alg: 'RS256' }
const as = await oauth.processDiscoveryResponse(new URL(issuer), await oauth.discoveryRequest(new URL(issuer)))

// A key that scripts can use and nobody can read; of all storage in a browser only IndexedDB keeps such keys.
function database(mode, act) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('app', 1)
    opening.onupgradeneeded = () => opening.result.createObjectStore('keys')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const asked = act(opening.result.transaction('keys', mode).objectStore('keys'))
      asked.onsuccess = () => resolve(asked.result)
      asked.onerror = () => reject(asked.error)
    }
  })
}

async function begin() {
  const pair = await oauth.generateKeyPair('ES256', { extractable: false })
  await database('readwrite', (keys) => keys.put(pair, 'dpop'))
  const kept = { verifier: oauth.generateRandomCodeVerifier(), state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce() }
  sessionStorage.kept = JSON.stringify(kept)
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({
    response_type: 'code', client_id, redirect_uri, scope, aud: fhir_base, state: kept.state, nonce: kept.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(kept.verifier), code_challenge_method: 'S256',
    dpop_jkt: await oauth.DPoP(client, pair).calculateThumbprint(),
  })
  location.assign(url)
}

// Each server asks for its own nonce once; the library remembers it by origin.
async function answering(where, act) {
  try {
    return await act()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    seen.challenges.push(where)
    return act()
  }
}

async function get(path, token, DPoP) {
  try {
    return await answering('resource', async () => {
      const response = await oauth.protectedResourceRequest(token, 'GET', new URL(fhir_base + path), undefined, undefined, { DPoP })
      return { status: response.status, body: await response.json() }
    })
  } catch (error) {
    if (error instanceof oauth.WWWAuthenticateChallengeError) return { status: error.status, error: error.cause[0].parameters.error }
    throw error
  }
}

async function finish() {
  const pair = await database('readonly', (keys) => keys.get('dpop'))
  const kept = JSON.parse(sessionStorage.kept)
  const DPoP = oauth.DPoP(client, pair)
  const none = oauth.None()
  const answer = oauth.validateAuthResponse(as, client, new URL(location.href), kept.state)
  history.replaceState(null, '', '/dpop.html')
  const tokens = await answering('token', async () => {
    const response = await oauth.authorizationCodeGrantRequest(as, client, none, answer, redirect_uri, kept.verifier, { DPoP })
    const read = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: kept.nonce, requireIdToken: true })
    await oauth.validateApplicationLevelSignature(as, response)
    return read
  })
  Object.assign(seen, { token_type: tokens.token_type, patient: tokens.patient, sub: oauth.getValidatedIdTokenClaims(tokens).sub })

  const refresh = (token, proof) => answering('refresh', async () =>
    oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, none, token, { DPoP: proof })))
  window.act = {
    read: async (path) => get(path, tokens.access_token, DPoP).then((r) => ({ status: r.status, id: r.body?.id })),
    exported: () => crypto.subtle.exportKey('jwk', pair.privateKey).then(() => 'exported', (error) => error.name),
    // What a thief has who reads all that scripts can read: the token without the key.
    bare: (scheme) => fetch(`${fhir_base}/Patient/${tokens.patient}`, { headers: { authorization: `${scheme} ${tokens.access_token}` } }).then((r) => r.status),
    with_another_key: async () => get(`/Patient/${tokens.patient}`, tokens.access_token, oauth.DPoP(client, await oauth.generateKeyPair('ES256'))).then((r) => [r.status, r.error]),
    refresh_with_another_key: async () => refresh(tokens.refresh_token, oauth.DPoP(client, await oauth.generateKeyPair('ES256'))).then(() => 'refreshed', (error) => error.error),
    refresh_without_a_key: () => refresh(tokens.refresh_token, undefined).then(() => 'refreshed', (error) => error.error),
    refresh: async () => {
      const renewed = await refresh(tokens.refresh_token, DPoP)
      const read = await get(`/Patient/${tokens.patient}`, renewed.access_token, DPoP)
      return { token_type: renewed.token_type, other: renewed.access_token !== tokens.access_token, status: read.status }
    },
  }
  const read = await get(`/Patient/${tokens.patient}`, tokens.access_token, DPoP)
  const found = await get('/Observation?_count=3', tokens.access_token, DPoP)
  document.getElementById('patient').textContent = read.body.name[0].family
  seen.id = read.body.id
  seen.subjects = [...new Set(found.body.entry.map((e) => e.resource.subject.reference))]
  seen.reads++
}

const parameters = new URLSearchParams(location.search)
const work = parameters.has('code') || parameters.has('error') ? finish() : begin()
work.catch((error) => { seen.error = `${error.name}: ${error.message} ${error.error ?? ''} ${error.cause ?? ''}` })
