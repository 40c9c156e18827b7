// npm oidc-provider as authorization server: client credentials with private_key_jwt and DPoP, PAR, code.
// usage: node oidc_provider.mjs SETTINGS_JSON NODE_MODULES
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [file, modules] = process.argv.slice(2)
const settings = JSON.parse(readFileSync(file))
const packaged = (path) => import(pathToFileURL(`${modules}/${path}`))
const { default: Provider } = await packaged('oidc-provider/lib/index.js')

const issuer = `http://127.0.0.1:${settings.port}`
const provider = new Provider(issuer, {
  clients: [{
    client_id: settings.client,
    grant_types: ['client_credentials', 'authorization_code'],
    redirect_uris: [settings.redirect_uri],
    response_types: ['code'],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    dpop_bound_access_tokens: true,
    jwks: settings.jwks,
    id_token_signed_response_alg: 'ES256',
    scope: 'openid system/Observation.rs',
  }],
  jwks: settings.own_jwks,
  scopes: ['openid', 'system/Observation.rs'],
  findAccount: async (context, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: { enabled: false },
  },
  clientAuthMethods: ['private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['ES256'], idTokenSigningAlgValues: ['ES256'], dPoPSigningAlgValues: ['ES256'] },
})
provider.on('server_error', (context, error) => console.error(error))
provider.on('grant.error', (context, error) => console.error(error.message, error.error_description, error.error_detail))
provider.listen(settings.port, '127.0.0.1')
