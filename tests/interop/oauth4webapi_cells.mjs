// npm oauth4webapi, the low-level library, over the client matrix: each step by hand, what was stolen included.
import * as oauth from 'oauth4webapi'
import { Wire, forgeries, idTokenSeen, introspectionSeen, matrix, person, playAll, refusal, signingKey } from './cells.mjs'

const issuer = new URL(matrix.issuer)
const jwks = {} // the server's keys, fetched once

async function discover(algorithm, options) {
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...options }))
}

// The resource server that introspects, once plain and once by signed answers.
const asking = { options: { [oauth.customFetch]: new Wire().fetch, [oauth.jwksCache]: jwks } }
asking.as = await discover('oauth2', asking.options)
asking.authentication = oauth.PrivateKeyJwt(await signingKey(matrix.resource_server.jwk))

async function introspected(token, signed = false) {
  const { as, authentication, options } = asking
  const client = { client_id: matrix.resource_server.client_id, ...(signed && { introspection_signed_response_alg: matrix.signing_algorithm }) }
  const response = await oauth.introspectionRequest(as, client, authentication, token, options)
  const said = await oauth.processIntrospectionResponse(as, client, response)
  if (signed) await oauth.validateApplicationLevelSignature(as, response, options)
  return introspectionSeen(said)
}

async function play(cell, wire) {
  const options = { [oauth.customFetch]: wire.fetch, [oauth.jwksCache]: jwks }
  const as = await discover(cell.openid ? 'oidc' : 'oauth2', options)
  const client = { client_id: cell.client_id, use_mtls_endpoint_aliases: cell.certificate !== null }
  if (cell.openid && cell.signed_responses) client.userinfo_signed_response_alg = matrix.signing_algorithm
  const authentication = cell.authentication === 'private_key_jwt' ? oauth.PrivateKeyJwt(await signingKey(cell.jwk)) : oauth.TlsClientAuth()
  const newProver = async () => (cell.binding === 'dpop' ? oauth.DPoP(client, await oauth.generateKeyPair('ES256')) : undefined)
  const DPoP = await newProver()

  // The server asks for its nonce once; the library remembers it.
  const answering = async (act) => {
    try {
      return await act()
    } catch (error) {
      if (!oauth.isDPoPNonceError(error)) throw error
      return act()
    }
  }
  const post = (request, process, ...extra) => answering(async () => process(as, client, await request(), ...extra))

  // The gateway tells of itself, too (RFC 9728).
  const base = new URL(cell.binding === 'dpop' ? matrix.fhir_base : matrix.fhir_base_mtls)
  const resource = await oauth.processResourceDiscoveryResponse(base, await oauth.resourceDiscoveryRequest(base, options))
  const seen = { issuer: as.issuer, led_to: resource.authorization_servers }

  const status = async (path, token, { prover = DPoP, through = wire } = {}) => {
    try {
      return await answering(async () => {
        const how = { DPoP: prover, [oauth.customFetch]: through.fetch }
        const response = await oauth.protectedResourceRequest(token, 'GET', new URL(base.href + path), undefined, undefined, how)
        await response.text()
        return response.status
      })
    } catch (error) {
      if (error instanceof oauth.WWWAuthenticateChallengeError) return error.status
      throw error
    }
  }
  // Whoever copied the token, without its key or certificate: as it is, and with a key or connection of his own.
  const stolen = async (token, path) => {
    const other = new Wire()
    return DPoP
      ? [await status(path, token, { prover: null }), await status(path, token, { prover: await newProver(), through: other })]
      : [await status(path, token, { through: other })]
  }
  // A resource server that is not ours checks token and proof by RFC 9068 and RFC 9449; the library knows no certificates.
  const readByAnother = async () => {
    const { client_id, scope } = await oauth.validateJwtAccessToken(as, wire.reading, matrix.fhir_base, { requireDPoP: true, ...options })
    return { client_id, scope }
  }
  const revoke = async (token) => oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authentication, token, options))

  if (cell.own) {
    const request = () => oauth.clientCredentialsGrantRequest(as, client, authentication, { scope: cell.scope }, { DPoP, ...options })
    const tokens = await post(request, oauth.processClientCredentialsResponse)
    Object.assign(seen, { token_type: tokens.token_type, scope: tokens.scope, refresh_token: 'refresh_token' in tokens })
    seen.own = await status('/Observation?category=laboratory&_count=2', tokens.access_token)
    if (DPoP) seen.read_by_another_server = await readByAnother()
    seen.other = await status(`/Patient/${person.patient}`, tokens.access_token)
    seen.stolen = await stolen(tokens.access_token, '/Observation')
    seen.introspected = await introspected(tokens.access_token)
    seen.introspected_signed = await introspected(tokens.access_token, true)
    await revoke(tokens.access_token)
    seen.revoked = { read: await status('/Observation', tokens.access_token), active: (await introspected(tokens.access_token)).active }
    return { ...seen, places: wire.places, challenges: wire.challenges }
  }

  const ask = async (browser, { deny = false, prover = DPoP, ...more } = {}) => {
    const kept = { verifier: oauth.generateRandomCodeVerifier(), state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce() }
    let parameters = new URLSearchParams({
      response_type: 'code', client_id: client.client_id, redirect_uri: cell.redirect_uri, state: kept.state, scope: cell.scope,
      code_challenge_method: 'S256', code_challenge: await oauth.calculatePKCECodeChallenge(kept.verifier), ...more,
      ...(cell.openid && { nonce: kept.nonce, max_age: '300' }), ...(cell.signed_responses && { response_mode: 'jwt' }),
    })
    if (cell.signed_requests)
      parameters = new URLSearchParams({ request: await oauth.issueRequestObject(as, client, parameters, await signingKey(cell.jwk)), client_id: client.client_id })
    const request = () => oauth.pushedAuthorizationRequest(as, client, authentication, parameters, { DPoP: prover ?? undefined, ...options })
    const pushed = await post(request, oauth.processPushedAuthorizationResponse)
    const url = new URL(as.authorization_endpoint)
    url.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri })
    seen.authorization_parameters = [...url.searchParams.keys()].sort()
    return { kept, answer: await browser.authorize(url.href, person, { deny }) }
  }
  const validated = async (answer, kept) =>
    cell.signed_responses ? oauth.validateJwtAuthResponse(as, client, answer, kept.state, options) : oauth.validateAuthResponse(as, client, answer, kept.state)
  const redeem = async (answer, kept, prover = DPoP) => {
    const callback = await validated(answer, kept)
    let response
    const request = async () =>
      (response = await oauth.authorizationCodeGrantRequest(as, client, authentication, callback, cell.redirect_uri, kept.verifier, { DPoP: prover, ...options }))
    const expected = cell.openid ? { expectedNonce: kept.nonce, maxAge: 300, requireIdToken: true } : {}
    const tokens = await post(request, oauth.processAuthorizationCodeResponse, expected)
    if (cell.openid) await oauth.validateApplicationLevelSignature(as, response, options)
    return tokens
  }

  const browser = person.browser()
  const denied = await ask(browser, { deny: true })
  seen.denied = await refusal(() => validated(denied.answer, denied.kept))
  const { kept, answer } = await ask(browser)
  seen.answer_parameters = [...answer.searchParams.keys()].sort()
  seen.forged = {}
  for (const [name, forged] of Object.entries(await forgeries(answer))) seen.forged[name] = await refusal(() => validated(forged, kept))
  const tokens = await redeem(answer, kept)
  Object.assign(seen, { token_type: tokens.token_type, scope: tokens.scope, patient: tokens.patient })
  if (cell.openid) {
    const claims = oauth.getValidatedIdTokenClaims(tokens)
    seen.id_token = idTokenSeen(claims, tokens.access_token, kept.nonce)
    let response
    const request = async () => (response = await oauth.userInfoRequest(as, client, tokens.access_token, { DPoP, ...options }))
    const { sub, ...told } = await answering(async () => oauth.processUserInfoResponse(as, client, claims.sub, await request()))
    if (client.userinfo_signed_response_alg) await oauth.validateApplicationLevelSignature(as, response, options)
    seen.userinfo = told
  }
  const path = `/Patient/${person.patient}`
  seen.own = await status(path, tokens.access_token)
  if (DPoP) seen.read_by_another_server = await readByAnother()
  seen.other = await status(`/Patient/${matrix.other_patient}`, tokens.access_token)
  seen.stolen = await stolen(tokens.access_token, path)
  const refresh = () => oauth.refreshTokenGrantRequest(as, client, authentication, tokens.refresh_token, { DPoP, ...options })
  const refreshed = await post(refresh, oauth.processRefreshTokenResponse)
  seen.refreshed = await status(path, refreshed.access_token)
  seen.introspected = await introspected(refreshed.access_token)
  seen.introspected_signed = await introspected(refreshed.access_token, true)
  await revoke(refreshed.access_token)
  seen.revoked = { read: await status(path, refreshed.access_token), active: (await introspected(refreshed.access_token)).active }
  await revoke(tokens.refresh_token)
  seen.grant_ended = { read: await status(path, tokens.access_token), refresh: await refusal(() => post(refresh, oauth.processRefreshTokenResponse)) }

  if (DPoP) {
    // A code goes to the key that PAR named (RFC 9449 10): by the proof, by dpop_jkt alone, and by nothing that differs.
    const other = await newProver()
    const byProof = await ask(browser)
    const byThumbprint = await ask(browser, { prover: null, dpop_jkt: await DPoP.calculateThumbprint() })
    seen.code_of_another_key = {
      named_by_proof: await refusal(() => redeem(byProof.answer, byProof.kept, other)),
      named_by_dpop_jkt: await refusal(() => redeem(byThumbprint.answer, byThumbprint.kept, other)),
    }
    seen.dpop_jkt_of_another_key = await refusal(() => ask(browser, { dpop_jkt: 'A'.repeat(43) }))
    const right = await ask(browser, { prover: null, dpop_jkt: await DPoP.calculateThumbprint() })
    seen.code_of_dpop_jkt = (await redeem(right.answer, right.kept)).token_type
  }
  return { ...seen, places: wire.places, challenges: wire.challenges }
}

await playAll(play)
process.exit(0)
