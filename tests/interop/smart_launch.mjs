// npm openid-client as an app of a SMART profile: no pushed request, `aud`, an ID token by RS256 whose signature it
// checks, refresh, userinfo, revocation.
// usage: node smart_launch.mjs SETTINGS_JSON ; prints one JSON object of what it saw.
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { Person } from './person.mjs'

const { issuer, fhir_base, client_id, secret, jwk, bound, redirect_uri, scope, launch, user } = JSON.parse(readFileSync(process.argv[2]))
let authentication = client.None()
if (secret) authentication = client.ClientSecretBasic(secret)
if (jwk) {
  const { alg, ...bare } = jwk
  const algorithm = jwk.kty === 'EC' ? { name: 'ECDSA', namedCurve: jwk.crv } : { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' }
  const key = await crypto.subtle.importKey('jwk', bare, algorithm, false, ['sign'])
  authentication = client.PrivateKeyJwt({ key, kid: jwk.kid })
}
const registered = { id_token_signed_response_alg: 'RS256' }
const config = await client.discovery(new URL(issuer), client_id, registered, authentication)
client.enableNonRepudiationChecks(config)
const DPoP = bound ? client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) : undefined

const pkceCodeVerifier = client.randomPKCECodeVerifier()
const [expectedState, expectedNonce] = [client.randomState(), client.randomNonce()]
const url = client.buildAuthorizationUrl(config, {
  redirect_uri, scope, aud: fhir_base, state: expectedState, nonce: expectedNonce,
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256',
  ...(launch ? { launch } : {}),
  ...(DPoP ? { dpop_jkt: await DPoP.calculateThumbprint() } : {}),
})
const answer = await new Person().authorize(url.href, user)
const tokens = await client.authorizationCodeGrant(config, answer, { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true }, undefined, { DPoP })
const claims = tokens.claims()
const header = JSON.parse(Buffer.from(tokens.id_token.split('.')[0], 'base64url'))
const get = async (token, path) => {
  try {
    const response = await client.fetchProtectedResource(config, token, new URL(fhir_base + path), 'GET', undefined, undefined, { DPoP })
    return [response.status, (await response.json()).id]
  } catch (error) {
    return [error.status ?? error.response?.status]
  }
}
const seen = {
  alg: header.alg, sub: claims.sub, fhirUser: claims.fhirUser, token_type: tokens.token_type, patient: tokens.patient,
  encounter: tokens.encounter ?? null, own: await get(tokens.access_token, `/Patient/${tokens.patient}`),
}
const told = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { DPoP })
seen.userinfo = [told.sub, told.fhirUser]
const renewed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
seen.renewed = [renewed.claims().sub, ...(await get(renewed.access_token, `/Patient/${tokens.patient}`))]
await client.tokenRevocation(config, renewed.refresh_token)
seen.revoked = await get(renewed.access_token, `/Patient/${tokens.patient}`)
console.log(JSON.stringify(seen))
