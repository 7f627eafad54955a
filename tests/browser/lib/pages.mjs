// What is held of every page of ours: a person can use it on a phone, in the dark, without eyes and without script.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const SIZES = [{ width: 320, height: 640 }, { width: 1280, height: 800 }]

/** Holds the page that is open against all of it; `what` says which it is when something is wrong. */
export async function check(page, what) {
  const usual = page.viewportSize()
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme })
    for (const size of SIZES) {
      await page.setViewportSize(size)
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      assert.ok(wide <= 0, `${what}: ${wide} pixels stick out at ${size.width}`)
      const found = await violations(page)
      assert.deepEqual(found, [], `${what}, ${colorScheme}, at ${size.width}`)
    }
  }
  await page.setViewportSize(usual)
  assert.equal(await page.locator('script').count(), 0, `${what}: a script`)
}

async function violations(page) {
  const { violations } = await page.evaluate(`${axe}; axe.run()`)
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)
}

/** Collects what the browser complains about on pages of an origin: a policy that was broken, something not found. */
export function complaints(page, origin) {
  const heard = []
  page.on('console', (message) => {
    const is = ['error', 'warning'].includes(message.type()) && message.location().url.startsWith(origin)
    // A page that says what went wrong has the status for it.
    if (is && !message.text().includes('the server responded with a status of 4')) heard.push(message.text())
  })
  return heard
}
