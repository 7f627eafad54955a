// The network's time: the machine's, until a test lets some pass. Everything in the process sees it, so that tokens expire
// and nonces change as they would; timers go on as they are.
let ahead = 0

/** To be called before anything else is imported that asks for the time. */
export function steerClock() {
  const Real = globalThis.Date
  const now = () => Real.now() + ahead
  globalThis.Date = new Proxy(Real, {
    construct: (target, args, as) => Reflect.construct(target, args.length ? args : [now()], as),
    apply: () => new Real(now()).toString(),
    get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
  })
}

/** Lets time pass; returns by how much the network is ahead of the machine, in seconds. */
export function passTime(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) {
    throw Object.assign(new Error('seconds must be a number that is not negative'), { status: 400 })
  }
  ahead += seconds * 1000
  return ahead / 1000
}
