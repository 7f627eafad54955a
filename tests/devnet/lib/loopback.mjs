// What the packages of the network offer no setting for: where they listen, and where they find https hosts that do
// not exist. Both are patched in this process, before @atproto/* is imported.
import net from 'node:net'

/** @atproto/pds and @did-plc/server call `listen(port)`, which is every interface: bind to `host` instead. */
export function listenOnlyOn(host, release) {
  const listen = net.Server.prototype.listen
  net.Server.prototype.listen = function (...args) {
    if (typeof args[0] === 'number') {
      release(args[0])
      if (typeof args[1] !== 'string') args.splice(1, 0, host)
    }
    return listen.apply(this, args)
  }
}

/**
 * Lets https hosts that exist nowhere be served by local http origins (`hosts`: name → origin, live). The OAuth
 * provider accepts https client ids on a real-looking domain only (no IP, no .test, .local, .localhost, .example): this
 * is how it gets the metadata and keys of a client that runs on this machine. Gives back the real fetch.
 */
export function serveVirtualHosts(hosts) {
  const realFetch = globalThis.fetch
  globalThis.fetch = async function (input, init) {
    const url = new URL(input instanceof Request ? input.url : String(input))
    const target = hosts.get(url.host)
    if (!target) return realFetch.call(this, input, init)
    const request = new Request(input, init)
    const headers = new Headers(request.headers)
    headers.set('x-forwarded-host', url.host)
    headers.set('x-forwarded-proto', url.protocol.slice(0, -1))
    const { method, redirect, signal } = request
    const to = new URL(url.pathname + url.search, target)
    const response = await realFetch.call(this, to, { method, headers, redirect, signal })
    Object.defineProperty(response, 'url', { value: url.href })
    return response
  }
  return realFetch
}
