// A headless user for the PDS's OAuth pages: opens the authorization URL, signs in and consents (or refuses) with the
// same HTTP calls that the sign-in page makes, and gives back the client's callback URL without opening it.
//   import { approve, Browser } from './lib/approve.mjs'
//   node lib/approve.mjs <authorization URL> <handle> <password> [--reject]     prints the callback URL
import http from 'node:http'
import https from 'node:https'

const API = '/@atproto/oauth-provider/~api'

// node:http, because fetch() sets Sec-Fetch-* itself and forbids Cookie, Origin and Referer.
export class Browser {
  constructor() { this.cookies = new Map() }
  request(method, url, headers = {}, body) {
    const u = new URL(url)
    const jar = this.cookies.get(u.host) ?? new Map()
    this.cookies.set(u.host, jar)
    return new Promise((resolve, reject) => {
      const req = (u.protocol === 'https:' ? https : http).request(u, {
        method,
        headers: {
          'user-agent': 'devnet-approve', 'accept-language': 'en',
          ...(jar.size && { cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; ') }),
          ...headers,
        },
      }, (res) => {
        let text = ''
        res.setEncoding('utf8').on('data', (d) => (text += d)).on('end', () => {
          for (const c of res.headers['set-cookie'] ?? []) {
            const [, k, v] = /^([^=]+)=([^;]*)/.exec(c)
            jar.set(k, v)
          }
          resolve({ status: res.statusCode, headers: res.headers, text })
        })
      })
      req.on('error', reject)
      req.end(body)
    })
  }
  cookie(url, name) { return this.cookies.get(new URL(url).host)?.get(name) }
}

const html = (text) => text.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim().slice(0, 300)

export async function approve(authorizeUrl, options) {
  const { handle, password, reject = false, remember = true, scope, browser = new Browser() } = options
  let { did } = options
  const origin = new URL(authorizeUrl).origin
  const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
  const opened = await browser.request('GET', authorizeUrl, { ...page, 'sec-fetch-site': 'cross-site' })
  // Signed in on this device before and nothing to consent to, or an error the client is to hear of.
  if (opened.status === 303 || opened.status === 302) return { callback: opened.headers.location, steps: ['redirect'] }
  if (opened.status !== 200) throw new Error(`authorization page: ${opened.status} ${html(opened.text)}`)
  const api = async (path, body, token) => {
    const r = await browser.request('POST', origin + API + path, {
      'content-type': 'application/json', accept: 'application/json',
      origin, referer: authorizeUrl,
      'sec-fetch-mode': 'same-origin', 'sec-fetch-site': 'same-origin', 'sec-fetch-dest': 'empty',
      'x-csrf-token': browser.cookie(origin, 'csrf-token'),
      ...(token && { authorization: `Bearer ${token}` }),
    }, JSON.stringify(body))
    const json = JSON.parse(r.text)
    if (r.status !== 200) throw Object.assign(new Error(`${path}: ${r.status} ${r.text}`), { status: r.status, json })
    return json
  }
  const steps = ['page']
  let result
  if (reject) { steps.push('reject'); result = await api('/reject', {}) }
  else {
    let token
    if (password !== undefined) { // else: the account `did`, signed in on this browser before
      steps.push('sign-in')
      const signedIn = await api('/sign-in', { locale: 'en', username: handle, password, remember })
      did = signedIn.account.did
      token = signedIn.ephemeralToken
    }
    steps.push('consent')
    result = await api('/consent', { did, ...(scope && { scope }) }, token)
  }
  const back = { ...page, 'sec-fetch-site': 'same-origin', referer: authorizeUrl }
  const last = await browser.request('GET', result.url, back)
  if (last.status !== 303) throw new Error(`redirect: ${last.status} ${html(last.text)}`)
  return { callback: last.headers.location, steps, page: opened.text, did }
}

if (process.argv[1] === import.meta.filename) {
  const [url, handle, password] = process.argv.slice(2).filter((a) => !a.startsWith('--'))
  const { callback } = await approve(url, { handle, password, reject: process.argv.includes('--reject') })
  console.log(callback)
}
