// npm openid-client v6 over the client matrix. Everything but the client's own registration comes from metadata.
import * as client from 'openid-client'
import { Wire, forgeries, idTokenSeen, introspectionSeen, matrix, person, playAll, refusal, signingKey } from './cells.mjs'

const withCertificate = (cell) => cell.certificate !== null

async function discovered(cell, wire) {
  const metadata = { use_mtls_endpoint_aliases: withCertificate(cell) }
  // Clients that take signed answers take signed userinfo, too.
  if (cell.openid && cell.signed_responses) metadata.userinfo_signed_response_alg = matrix.signing_algorithm
  const byKey = cell.authentication === 'private_key_jwt'
  const authentication = byKey ? client.PrivateKeyJwt(await signingKey(cell.jwk)) : client.TlsClientAuth()
  const config = await client.discovery(new URL(matrix.issuer), cell.client_id, metadata, authentication, {
    algorithm: cell.openid ? 'oidc' : 'oauth2',
    [client.customFetch]: wire.fetch,
  })
  client.enableNonRepudiationChecks(config) // signatures are checked, whatever TLS says
  if (cell.signed_responses) client.useJwtResponseMode(config)
  return config
}

// The resource server that introspects, once plain and once by signed answers.
const asking = {}
for (const kind of ['plain', 'signed']) {
  const wire = new Wire()
  const { client_id, jwk } = matrix.resource_server
  const metadata = kind === 'signed' ? { introspection_signed_response_alg: matrix.signing_algorithm } : {}
  asking[kind] = await client.discovery(new URL(matrix.issuer), client_id, metadata, client.PrivateKeyJwt(await signingKey(jwk)), { [client.customFetch]: wire.fetch })
  client.enableNonRepudiationChecks(asking[kind])
}

async function play(cell, wire) {
  const config = await discovered(cell, wire)
  const DPoP = cell.binding === 'dpop' ? client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) : undefined
  const base = cell.binding === 'dpop' ? matrix.fhir_base : matrix.fhir_base_mtls
  const seen = { issuer: config.serverMetadata().issuer }
  const status = async (path, token) => {
    try {
      return (await client.fetchProtectedResource(config, token, new URL(base + path), 'GET', undefined, undefined, { DPoP })).status
    } catch (error) {
      return error.status ?? String(error)
    }
  }
  const introspected = async (token, kind) => introspectionSeen(await client.tokenIntrospection(asking[kind], token))

  if (cell.own) {
    const tokens = await client.clientCredentialsGrant(config, { scope: cell.scope }, { DPoP })
    Object.assign(seen, { token_type: tokens.token_type, scope: tokens.scope, refresh_token: 'refresh_token' in tokens })
    seen.own = await status('/Observation?category=laboratory&_count=2', tokens.access_token)
    seen.other = await status(`/Patient/${person.patient}`, tokens.access_token)
    seen.introspected = await introspected(tokens.access_token, 'plain')
    seen.introspected_signed = await introspected(tokens.access_token, 'signed')
    await client.tokenRevocation(config, tokens.access_token)
    seen.revoked = { read: await status('/Observation', tokens.access_token), active: (await introspected(tokens.access_token, 'plain')).active }
    return { ...seen, places: wire.places, challenges: wire.challenges }
  }

  const ask = async (browser, { deny = false, ...more } = {}) => {
    const checks = { pkceCodeVerifier: client.randomPKCECodeVerifier(), expectedState: client.randomState() }
    const asked = {
      redirect_uri: cell.redirect_uri,
      scope: cell.scope,
      state: checks.expectedState,
      code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
      code_challenge_method: 'S256',
      ...more,
    }
    if (cell.openid) Object.assign(checks, { expectedNonce: client.randomNonce(), maxAge: 300, idTokenExpected: true })
    if (cell.openid) Object.assign(asked, { nonce: checks.expectedNonce, max_age: '300' })
    let parameters = new URLSearchParams(asked)
    if (cell.signed_requests) parameters = (await client.buildAuthorizationUrlWithJAR(config, parameters, await signingKey(cell.jwk))).searchParams
    const url = await client.buildAuthorizationUrlWithPAR(config, parameters, { DPoP })
    seen.authorization_parameters = [...url.searchParams.keys()].sort()
    return { checks, answer: await browser.authorize(url.href, person, { deny }) }
  }
  const redeem = (answer, checks) => client.authorizationCodeGrant(config, answer, checks, undefined, { DPoP })

  const browser = person.browser()
  const denied = await ask(browser, { deny: true })
  seen.denied = await refusal(() => redeem(denied.answer, denied.checks))
  const { checks, answer } = await ask(browser)
  seen.answer_parameters = [...answer.searchParams.keys()].sort()
  seen.forged = {}
  for (const [name, forged] of Object.entries(await forgeries(answer))) seen.forged[name] = await refusal(() => redeem(forged, checks))
  const tokens = await redeem(answer, checks)
  Object.assign(seen, { token_type: tokens.token_type, scope: tokens.scope, patient: tokens.patient })
  if (cell.openid) {
    const claims = tokens.claims()
    seen.id_token = idTokenSeen(claims, tokens.access_token, checks.expectedNonce)
    const { sub, ...told } = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { DPoP })
    seen.userinfo = told
  }
  seen.own = await status(`/Patient/${person.patient}`, tokens.access_token)
  seen.other = await status(`/Patient/${matrix.other_patient}`, tokens.access_token)
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
  seen.refreshed = await status(`/Patient/${person.patient}`, refreshed.access_token)
  seen.introspected = await introspected(refreshed.access_token, 'plain')
  seen.introspected_signed = await introspected(refreshed.access_token, 'signed')
  await client.tokenRevocation(config, refreshed.access_token)
  seen.revoked = { read: await status(`/Patient/${person.patient}`, refreshed.access_token), active: (await introspected(refreshed.access_token, 'plain')).active }
  await client.tokenRevocation(config, tokens.refresh_token)
  seen.grant_ended = {
    read: await status(`/Patient/${person.patient}`, tokens.access_token),
    refresh: await refusal(() => client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })),
  }
  if (cell.openid) {
    const state = client.randomState()
    const url = client.buildEndSessionUrl(config, { post_logout_redirect_uri: cell.signed_out_uri, id_token_hint: tokens.id_token, state })
    const { left } = await browser.follow(url.href)
    const silent = await ask(browser, { prompt: 'none' })
    seen.signed_out = {
      back: left && left.origin + left.pathname,
      state: left?.searchParams.get('state') === state,
      then: await refusal(() => redeem(silent.answer, silent.checks)),
    }
  }
  return { ...seen, places: wire.places, challenges: wire.challenges }
}

await playAll(play)
process.exit(0)
