// Waits until the network is up: node health.mjs [controlUrl] [seconds]; exit 0 when it is, 1 when it is not by then.
const [url = 'http://127.0.0.1:2580', seconds = '60'] = process.argv.slice(2)
const until = Date.now() + Number(seconds) * 1000
let last = 'no answer'
do {
  try {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2000) })
    last = await response.text()
    if (response.ok) {
      console.log(last)
      process.exit(0)
    }
  } catch (err) {
    last = String(err.cause?.code ?? err)
  }
  await new Promise((resolve) => setTimeout(resolve, 200))
} while (Date.now() < until)
console.error(last)
process.exit(1)
