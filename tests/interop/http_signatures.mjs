// npm http-message-signatures verifies a signed answer of the gateway, read with Node's own HTTP client.
// usage: node http_signatures.mjs FILE ; FILE holds JSON: url, method, headers, jwks_uri, ca ; prints what was seen.
import { createHash, createPublicKey, verify as verifyBytes, constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { createVerifier, httpbis } from 'http-message-signatures'
import { parseDictionary } from 'structured-headers'

const asked = JSON.parse(readFileSync(process.argv[2]))
const ca = readFileSync(asked.ca)
const NAMES = { ES256: 'ecdsa-p256-sha256', EdDSA: 'ed25519' }

function send(method, url, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, ca, agent: false }, (response) => {
      const pieces = []
      response.on('data', (piece) => pieces.push(piece))
      response.on('error', reject)
      response.on('end', () => resolve({
        status: response.statusCode, headers: response.headers, trailers: response.trailers, body: Buffer.concat(pieces),
      }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

// RFC 9421 3.3.7: PS256 has no name in the registry of signature algorithms, the JWK says it.
function verifierOf(jwk) {
  const key = createPublicKey({ key: jwk, format: 'jwk' })
  if (jwk.alg !== 'PS256') return createVerifier(key, NAMES[jwk.alg])
  const options = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
  return async (data, signature) => verifyBytes('sha256', data, options, signature)
}

async function isRight(answer, url, body) {
  const all = { ...answer.headers, ...answer.trailers }
  const digests = parseDictionary(all['content-digest'])
  const digest = Buffer.from(digests.get('sha-256')[0])
  if (!createHash('sha256').update(body).digest().equals(digest)) return false
  return httpbis.verifyMessage(
    {
      keyLookup: async ({ keyid }) => {
        const jwk = jwks.keys.find((key) => key.kid === keyid)
        return jwk && { id: keyid, algs: NAMES[jwk.alg] ? [NAMES[jwk.alg]] : [], verify: verifierOf(jwk) }
      },
      requiredParams: ['created', 'keyid', 'tag'],
      requiredFields: ['@status', 'content-digest', '@method', '@target-uri'],
      maxAge: 60,
      tolerance: 5,
      // The library knows no ;tr (RFC 9421 2.1.4): a field of the trailer section is looked up for it.
      componentParser: (name, parameters) => (parameters.has('tr') ? [answer.trailers[name]] : null),
    },
    { status: answer.status, headers: all },
    { method: asked.method, url, headers: asked.headers },
  ).catch((error) => String(error))
}

const jwks = JSON.parse((await send('GET', asked.jwks_uri)).body)
const answer = await send(asked.method, asked.url, asked.headers)
const altered = Buffer.from(answer.body)
if (altered.length) altered[altered.length - 2] ^= 1
console.log(JSON.stringify({
  status: answer.status,
  bytes: answer.body.length,
  announced: answer.headers.trailer ?? '',
  trailers: Object.keys(answer.trailers),
  right: await isRight(answer, asked.url, answer.body),
  other_body: altered.length ? await isRight(answer, asked.url, altered) : false,
  other_request: await isRight(answer, asked.url + '/x', answer.body),
  other_status: await isRight({ ...answer, status: 203 }, asked.url, answer.body),
}))
