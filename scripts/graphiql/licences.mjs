// Prints the licences of everything inside the bundles of the GraphiQL page: node licences.mjs node_modules
// Which packages these are is read from GraphiQL's source map, so none is forgotten when the version changes.
import fs from 'node:fs'
import path from 'node:path'

const modules = process.argv[2]
const MONOREPO = {
  // folders of GraphiQL's own repository, as its source map names them
  'codemirror-graphql': 'codemirror-graphql',
  'graphiql-plugin-doc-explorer': '@graphiql/plugin-doc-explorer',
  'graphiql-plugin-history': '@graphiql/plugin-history',
  'graphiql-react': '@graphiql/react',
  'graphiql-toolkit': '@graphiql/toolkit',
  'graphql-language-service': 'graphql-language-service',
}
// Packages that ship no licence file: the one of their own repository that does.
const SAME_REPOSITORY = {
  '@graphiql/plugin-doc-explorer': 'graphiql',
  '@graphiql/plugin-history': 'graphiql',
  'react-compiler-runtime': 'react',
}

const packages = new Set(['graphiql', 'react', 'react-dom', 'scheduler'])
const map = JSON.parse(fs.readFileSync(path.join(modules, 'graphiql/graphiql.min.js.map'), 'utf8'))
for (const source of map.sources) {
  const installed = [...source.matchAll(/node_modules\/((?:@[^/]+\/)?[^/]+)/g)].at(-1)
  const own = /^(?:\.\.\/)+([a-z-]+)\/(?:dist|esm)\//.exec(source)
  if (installed) packages.add(installed[1])
  else if (own) packages.add(MONOREPO[own[1]] ?? fail(`${source}: which package is it?`))
  else if (!source.startsWith('../src/') && !source.startsWith('\0')) fail(`${source}: which package is it?`)
}

function fail(why) {
  console.error(`licences: ${why}`)
  process.exit(1)
}

function licence(name) {
  const folder = path.join(modules, name)
  if (!fs.existsSync(folder)) fail(`${name} is in the bundle but not in scripts/graphiql/package.json`)
  const { version, license, author } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'))
  const file = fs.readdirSync(folder).find((f) => /^licen[sc]e/i.test(f))
  const by = typeof author === 'string' ? author : author?.name
  let text
  if (file) text = fs.readFileSync(path.join(folder, file), 'utf8')
  else if (SAME_REPOSITORY[name]) text = licence(SAME_REPOSITORY[name]).text
  else if (license === 'MIT' && by) text = MIT(by)
  else fail(`${name} has no licence text`)
  return { name, version, license, text: text.replace(/\r\n/g, '\n').trim() }
}

const MIT = (by) => `The MIT License (MIT)

Copyright (c) ${by}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`

const byText = new Map()
for (const name of [...packages].sort()) {
  const { version, license, text } = licence(name)
  byText.set(text, [...(byText.get(text) ?? []), `${name} ${version} (${license})`])
}
console.log('Licences of the software in this folder. The bundle of GraphiQL was built by its authors from these packages;')
console.log('versions are those that its package names today, which may be newer than what was built in.')
for (const [text, names] of byText) console.log(`\n${'='.repeat(80)}\n${names.join('\n')}\n${'-'.repeat(80)}\n${text}`)
