// A person signs in at gateways with Chromium: by a wrong handle first, then at the real pages of their PDS, where they refuse
// once; they look at who they are, and sign out.
//   node sign-in.mjs '{"gateways":[{"origin","address"?}],"people":[{"handle","password"}],"pictures"?}'
// `address` (host:port) is where a gateway listens, if that is not its origin; `pictures` a folder for login.png and what it
// is made of. Ends well if all of it went as it should.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { launch } from './lib/chromium.mjs'
import { check, complaints } from './lib/pages.mjs'
import { terminate } from './lib/tls.mjs'

const PHONE = { width: 360, height: 820 }

const { gateways, people, pictures } = JSON.parse(process.argv[2])
const hosts = {}
for (const { origin, address } of gateways.filter(({ address }) => address)) {
  const { hostname } = new URL(origin)
  hosts[`${hostname}:443`] = await terminate(hostname, address)
}
const browser = await launch(hosts)
try {
  for (const { origin } of gateways) {
    for (const [number, person] of people.entries()) {
      const began = Date.now()
      const [isFirst, isLooked] = [number === 0, origin === gateways[0].origin] // every gateway has the same pages
      await visit(origin, person, { isFirst, isLooked, picture: pictures && isFirst && isLooked ? shoot : undefined })
      console.error(`${person.handle} at ${origin}: ${Date.now() - began} ms`)
    }
  }
  if (pictures) await join()
} finally {
  await browser.close()
}

/** One person with a browser that was never here. */
async function visit(origin, person, { isFirst, isLooked, picture = async () => {} }) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: PHONE, locale: 'en' })
  context.setDefaultTimeout(30_000)
  const page = await context.newPage()
  const heard = complaints(page, origin)
  const heading = () => page.getByRole('heading', { level: 1 }).textContent()
  const field = page.getByLabel('Your handle')
  const send = async (text) => {
    await field.fill(text)
    await page.getByRole('button', { name: 'Continue' }).click()
  }
  const look = (what) => (isFirst && isLooked ? check(page, what) : undefined)

  await page.goto(`${origin}/session`)
  assert.equal(await heading(), 'You are not signed in')
  await look('nobody')
  await page.getByRole('link', { name: 'Sign in' }).click()
  assert.equal(await page.title(), 'Sign in · OpenMeet')
  assert.ok(await field.evaluate((input) => input === document.activeElement), 'one can begin to type')
  await look('the form')

  // Nobody's handle: the page says so, and says it of the field.
  await send('nobody-at-all.test')
  await page.getByRole('alert').waitFor()
  assert.match(await page.title(), /^Error/)
  assert.equal(await field.getAttribute('aria-invalid'), 'true')
  assert.equal(await field.inputValue(), 'nobody-at-all.test')
  const described = await field.evaluate((input) =>
    input.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).textContent).join(' '))
  assert.match(described, /No account has this handle/)
  await look('a wrong handle')

  // At the PDS the person thinks better of it.
  await send(person.handle)
  await enterPassword(page, person)
  await page.getByRole('button', { name: 'Deny access' }).click()
  await page.waitForURL(`${origin}/**`)
  assert.equal(await heading(), 'You are not signed in')
  assert.match(await page.getByRole('alert').textContent(), /You did not allow it/)
  await look('declined')
  await page.getByRole('link', { name: 'Start again' }).click()

  // And then again.
  await field.fill(person.handle)
  await picture(page, 1)
  await send(person.handle)
  await enterPassword(page, person)
  await picture(page, 2)
  if (!isFirst) await page.getByRole('checkbox').uncheck() // the email address
  await page.getByRole('button', { name: 'Authorize' }).click()
  await page.waitForURL(`${origin}/**`)
  assert.equal(await heading(), 'You are signed in')
  await page.getByText(`@${person.handle}`).waitFor()
  await page.getByText('publish your events').waitFor()
  assert.equal(await page.getByRole('heading', { name: 'What you did not allow' }).isVisible(), !isFirst)
  if (isLooked) await check(page, isFirst ? 'signed in' : 'signed in, with less allowed')
  await picture(page, 3)
  const kept = await context.cookies(origin)
  const session = kept.find(({ name }) => name.endsWith('session'))
  assert.ok(session?.httpOnly && session.sameSite === 'Lax', 'the cookie of the session')
  assert.equal(session.name === '__Host-session' && session.secure, origin.startsWith('https'))

  // The address in the bar is used up; whoever loads it again is told that nothing has changed.
  await page.reload()
  assert.equal(await heading(), 'Nothing has changed')
  await look('loaded again')
  await page.getByRole('link', { name: 'See who is signed in' }).click()
  await page.getByText(`@${person.handle}`).waitFor()

  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByText('Nobody is signed in').waitFor()
  const left = await context.cookies(origin)
  assert.ok(!left.some(({ name }) => name.endsWith('session')), 'the cookie is gone')
  assert.deepEqual(heard, [])
  await context.close()
}

/** The page of the PDS, up to the question of what to allow. */
async function enterPassword(page, { handle, password }) {
  const secret = page.locator('input[type=password]')
  await secret.waitFor()
  const name = page.locator('input[autocomplete=username]')
  if (await name.isEditable()) await name.fill(handle)
  await secret.fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Authorize' }).waitFor()
}

async function shoot(page, number) {
  await page.screenshot({ path: path.join(pictures, `${number}.png`) })
}

/** The pictures beside each other, as one. */
async function join() {
  const page = await browser.newPage({ viewport: { width: 3 * PHONE.width + 4 * 16, height: PHONE.height + 2 * 16 } })
  const images = [1, 2, 3].map((number) => {
    const image = readFileSync(path.join(pictures, `${number}.png`)).toString('base64')
    return `<img src="data:image/png;base64,${image}">`
  })
  await page.setContent(`<style>body { margin: 16px; display: flex; gap: 16px; background: #d0d7de }</style>${images.join('')}`)
  await page.screenshot({ path: path.join(pictures, 'login.png') })
}
