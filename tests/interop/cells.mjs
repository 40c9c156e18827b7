// What the programs of the client matrix share: the wire, keys, a person, and what a library's refusal looks like.
// usage of each: node PROGRAM MATRIX_JSON [NAME…] ; prints one JSON line a cell: {cell, seen} or {cell, failed}.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { SignJWT, generateKeyPair } from 'jose'
import { Agent, fetch as undiciFetch } from 'undici'
import { Person } from './person.mjs'

const [file, ...names] = process.argv.slice(2)
export const matrix = JSON.parse(readFileSync(file))
const CONCURRENT = 4
const ca = readFileSync(matrix.ca_certificate)
const publicAgent = new Agent({ connect: { ca } })
const browser = (url, init) => undiciFetch(url, { ...init, dispatcher: publicAgent })
export const person = { ...matrix.person, browser: () => new Person(browser) }

// The connections of one client. places tells on which listener each endpoint was called, challenges where the server
// asked for its nonce, and reading is the last FHIR request, as another server would see it.
export class Wire {
  constructor(cell) {
    const certificate = cell?.certificate
    this.agent = certificate ? new Agent({ connect: { ca, cert: readFileSync(certificate), key: readFileSync(cell.certificate_key) } }) : publicAgent
    this.places = {}
    this.challenges = []
    this.fetch = this.fetch.bind(this)
  }

  async fetch(url, init) {
    const response = await undiciFetch(url, { ...init, dispatcher: this.agent })
    const { origin, pathname } = new URL(url)
    const door = pathname.startsWith('/fhir/') ? 'fhir' : pathname.slice(1)
    if (door === 'fhir') this.reading = new Request(url, { headers: init.headers })
    if (!door.startsWith('.well-known') && door !== 'jwks') this.places[door] = origin === matrix.issuer ? 'public' : 'mtls'
    const asked = response.status === 401 ? response.headers.get('www-authenticate') : response.status === 400 ? await response.clone().text() : ''
    if (asked?.includes('use_dpop_nonce')) this.challenges.push(door)
    return response
  }

  async close() {
    if (this.agent !== publicAgent) await this.agent.close()
  }
}

const WEB_CRYPTO = { ES256: { name: 'ECDSA', namedCurve: 'P-256' }, PS256: { name: 'RSA-PSS', hash: 'SHA-256' }, EdDSA: { name: 'Ed25519' } }

export async function signingKey(jwk) {
  const { use, key_ops, alg, ...bare } = jwk
  return { key: await crypto.subtle.importKey('jwk', bare, WEB_CRYPTO[alg], false, ['sign']), kid: jwk.kid }
}

// OpenID Connect Core 3.1.3.6; neither library looks at at_hash in the code flow.
export function atHash(token, algorithm) {
  const digest = createHash(algorithm === 'EdDSA' ? 'sha512' : 'sha256').update(token, 'ascii').digest()
  return digest.subarray(0, digest.length / 2).toString('base64url')
}

export function idTokenSeen(claims, accessToken, nonce) {
  return {
    iss: claims.iss,
    aud: claims.aud,
    nonce: claims.nonce === nonce,
    at_hash: claims.at_hash === atHash(accessToken, matrix.signing_algorithm),
    fhirUser: claims.fhirUser,
    acr: claims.acr,
    signed_in_just_now: Math.abs(Date.now() / 1000 - claims.auth_time) < 120,
  }
}

// Answers that a client must refuse: from another issuer, without one, or signed by somebody else.
export async function forgeries(answer) {
  const made = {}
  const alter = (name, change) => {
    made[name] = new URL(answer)
    change(made[name].searchParams)
  }
  const response = answer.searchParams.get('response')
  if (!response) {
    alter('other_issuer', (p) => p.set('iss', 'https://attacker.example'))
    alter('no_issuer', (p) => p.delete('iss'))
    alter('other_state', (p) => p.set('state', 'of another browser'))
    return made
  }
  const [header, claims] = response.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')))
  const { privateKey } = await generateKeyPair(header.alg)
  const signed = (changed) => new SignJWT({ ...claims, ...changed }).setProtectedHeader(header).sign(privateKey)
  for (const [name, changed] of [['other_issuer', { iss: 'https://attacker.example' }], ['other_client', { aud: 'another' }], ['other_key', {}]]) {
    const jwt = await signed(changed)
    alter(name, (p) => p.set('response', jwt))
  }
  return made
}

// The code of the error that the act throws; what does not throw is told, too.
export async function refusal(act) {
  try {
    await act()
  } catch (error) {
    return error.error ?? error.cause?.error ?? error.code ?? String(error)
  }
  return 'accepted'
}

export const introspectionSeen = (said) => ({
  active: said.active,
  client_id: said.client_id,
  bound_by: said.cnf && Object.keys(said.cnf)[0],
  patient: said.patient,
})

// Plays every cell that was named, a few at a time.
export async function playAll(play) {
  const waiting = matrix.cells.filter((cell) => !names.length || names.includes(cell.name))
  const worker = async () => {
    for (let cell = waiting.shift(); cell; cell = waiting.shift()) {
      const wire = new Wire(cell)
      let said
      try {
        said = { cell: cell.name, seen: await play(cell, wire) }
      } catch (error) {
        const cause = error.cause?.body ?? error.cause
        said = { cell: cell.name, failed: `${error.stack}\n${cause ? JSON.stringify(cause, null, 1) : ''}` }
      }
      await wire.close()
      console.log(JSON.stringify(said))
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT }, worker))
  await publicAgent.close()
}
