// A person at a browser, played with fetch: follows redirects by hand, keeps cookies, fills the forms that it finds.
// Knows the form ids of the outer contract and nothing else of the server.

export class Person {
  constructor(fetchImpl = fetch) {
    this.fetch = fetchImpl
    this.cookies = new Map()
  }

  async open(url, init = {}) {
    const headers = { ...init.headers }
    if (this.cookies.size) headers.cookie = [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ')
    const response = await this.fetch(url, { ...init, headers, redirect: 'manual' })
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(';')
      const [name, value] = [pair.slice(0, pair.indexOf('=')).trim(), pair.slice(pair.indexOf('=') + 1).trim()]
      if (attributes.some((a) => /^\s*max-age=0$/i.test(a))) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return response
  }

  // Opens url and follows redirects inside origin; returns the last page, or the redirect that leaves.
  async follow(url, init = {}) {
    const origin = new URL(url).origin
    let response = await this.open(url, init)
    for (let hops = 0; hops < 10 && [301, 302, 303].includes(response.status); hops++) {
      const next = new URL(response.headers.get('location'), url)
      if (next.origin !== origin) return { left: next }
      url = next.href
      response = await this.open(url)
    }
    return { url, status: response.status, html: await response.text() }
  }

  // Submits the form that holds the button with this id, with every field as it stands, and `fill` over it.
  async press(page, buttonId, fill = {}) {
    const form = [...page.html.matchAll(/<form\b[^>]*>[\s\S]*?<\/form>/g)].find((m) => m[0].includes(`id="${buttonId}"`))
    if (!form) throw new Error(`no form with #${buttonId} in a page of status ${page.status}: ${page.html.slice(0, 400)}`)
    const attribute = (tag, name) => unescape(tag.match(new RegExp(`\\s${name}="([^"]*)"`))?.[1])
    const body = new URLSearchParams()
    for (const [tag] of form[0].matchAll(/<input\b[^>]*>/g)) {
      const [name, type, value] = ['name', 'type', 'value'].map((n) => attribute(tag, n))
      if (!name || type === 'submit') continue
      if ((type === 'checkbox' || type === 'radio') && !/\schecked\b/.test(tag)) continue
      if (!(name in fill)) body.append(name, value ?? (type === 'checkbox' ? 'on' : ''))
    }
    for (const [tag] of form[0].matchAll(/<(?:button|input)\b[^>]*>/g)) {
      if (attribute(tag, 'id') === buttonId && attribute(tag, 'name')) body.append(attribute(tag, 'name'), attribute(tag, 'value') ?? '')
    }
    for (const [name, value] of Object.entries(fill)) body.append(name, value)
    const action = new URL(attribute(form[0], 'action') ?? page.url, page.url)
    return this.follow(action.href, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', origin: action.origin },
      body: body.toString(),
    })
  }

  // From the authorization URL to the redirect that carries the answer.
  async authorize(url, user, { deny = false } = {}) {
    let page = await this.follow(url)
    for (let steps = 0; steps < 6 && !page.left; steps++) {
      if (page.html.includes('id="login"')) page = await this.press(page, 'login', { username: user.username, password: user.password })
      else if (page.html.includes('id="select"')) page = await this.press(page, 'select')
      else if (page.html.includes('id="allow"')) page = await this.press(page, deny ? 'deny' : 'allow')
      else throw new Error(`an unexpected page of status ${page.status}: ${page.html.slice(0, 600)}`)
    }
    if (!page.left) throw new Error('the pages never led back to the client')
    return page.left
  }
}

function unescape(text) {
  return text?.replace(/&#(\d+);/g, (_, n) => String.fromCharCode(n)).replace(/&quot;/g, '"').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&')
}
