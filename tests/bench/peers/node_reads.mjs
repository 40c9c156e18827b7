// A resource server of Node: oauth4webapi checks token and proof, a Set keeps every jti, undici speaks to the store.
// usage: node node_reads.mjs SETTINGS_JSON NODE_MODULES
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'

const [file, modules] = process.argv.slice(2)
const settings = JSON.parse(readFileSync(file))
const packaged = (path) => import(pathToFileURL(`${modules}/${path}`))
const oauth = await packaged('oauth4webapi/build/index.js')
const { default: { Pool } } = await packaged('undici/index.js')

const store = new Pool(`http://127.0.0.1:${settings.store}`, { connections: 32 })
const as = { issuer: settings.issuer, jwks_uri: `${settings.issuer}/jwks` }
const jwks = JSON.stringify(settings.jwks)
const options = {
  requireDPoP: true,
  [oauth.customFetch]: async () => new Response(jwks, { headers: { 'content-type': 'application/json' } }),
  [oauth.allowInsecureRequests]: true,
}
const seen = new Set()
const origin = `http://127.0.0.1:${settings.port}`

createServer(async (request, response) => {
  try {
    const url = origin + request.url
    const asked = new Request(url, { method: request.method, headers: request.headers })
    await oauth.validateJwtAccessToken(as, asked, settings.audience, options)
    const proof = request.headers.dpop.split('.')[1]
    const { jti } = JSON.parse(Buffer.from(proof, 'base64url'))
    if (seen.has(jti)) throw new Error('replayed')
    seen.add(jti)
    const answer = await store.request({ method: request.method, path: request.url })
    response.writeHead(answer.statusCode, answer.headers)
    answer.body.pipe(response)
  } catch (error) {
    response.writeHead(401).end(String(error))
  }
}).listen(settings.port, '127.0.0.1')
