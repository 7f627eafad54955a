// Chromium as the system has it, without a window and without anybody to talk to but this machine.
import fs from 'node:fs'
import path from 'node:path'
import { chromium } from 'playwright-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']

/** Starts it. `hosts`: names with a port, and the address of this machine where each is instead. */
export async function launch(hosts = {}) {
  const rules = Object.entries(hosts).map(([name, address]) => `MAP ${name} ${address}`)
  rules.push('MAP * ~NOTFOUND', 'EXCLUDE localhost', 'EXCLUDE 127.0.0.1')
  return chromium.launch({
    executablePath: find(),
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
      '--disable-background-networking', '--disable-component-update', `--host-resolver-rules=${rules.join(', ')}`,
    ],
  })
}

function find() {
  const folders = (process.env.PATH ?? '').split(path.delimiter)
  const found = NAMES.flatMap((name) => folders.map((folder) => path.join(folder, name))).find((file) => fs.existsSync(file))
  if (found) return found
  console.error("Chromium: missing. Get it with: sudo apt-get install chromium fonts-liberation (or your system's equivalent)")
  process.exit(1)
}
