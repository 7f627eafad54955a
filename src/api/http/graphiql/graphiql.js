// Starts GraphiQL on /graphql: queries and mutations as one POST, subscriptions as server-sent events of the same
// address (the "distinct connections" mode of graphql-sse: events `next` and `complete`).
const { createElement } = window.React
const { GraphiQL, ReactDOM } = window

const ENDPOINT = '/graphql'
const JSON_TYPES = 'application/graphql-response+json, application/json'

const today = `${new Date().toISOString().slice(0, 10)}T00:00:00Z`
const DEFAULT_QUERY = `# The next events. Ctrl-Enter runs it,
# Ctrl-Space suggests fields.
query Upcoming {
  events(
    first: 10
    filter: { startsAt: { from: "${today}" } }
  ) {
    nodes {
      name
      startsAt
      status
      mode
      attendance { confirmedCount }
      organizer { displayName handle }
    }
    pageInfo { hasNextPage endCursor }
  }
}

# Changes as they come in: remove the #
# of each line below and run Live.
# subscription Live {
#   eventIngested {
#     cursor
#     operation
#     event { name startsAt }
#   }
# }
`

function post(params, headers, accept, signal) {
  return fetch(ENDPOINT, {
    method: 'POST',
    headers: { ...headers, accept, 'content-type': 'application/json' },
    body: JSON.stringify(params),
    signal,
  })
}

// The server answers GraphQL errors as JSON with any status; a proxy before it may answer anything.
async function readJson(response) {
  const text = await response.text()
  try {
    return JSON.parse(text)
  } catch {
    throw new Error(`HTTP ${response.status} ${response.statusText}: ${text.slice(0, 300) || 'no body'}`)
  }
}

/** The events of a text/event-stream body, as { event, data }. */
async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  let event = 'message'
  let data = []
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n') // \r\n leaves a \r, taken off below
    rest = lines.pop()
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
      if (line === '') {
        // an empty line ends the event; after comments (keepalives) alone there is none
        if (event !== 'message' || data.length) yield { event, data: data.join('\n') }
        event = 'message'
        data = []
        continue
      }
      const colon = line.indexOf(':')
      const field = colon < 0 ? line : line.slice(0, colon)
      const content = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
      if (field === 'event') event = content
      if (field === 'data') data.push(content)
    }
  }
}

async function* results(params, headers, signal) {
  const response = await post(params, headers, 'text/event-stream', signal)
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    yield await readJson(response) // refused before it began
    return
  }
  for await (const { event, data } of serverSentEvents(response.body)) {
    if (event === 'next') yield JSON.parse(data)
    if (event === 'complete') return
  }
  throw new Error('the connection ended before the subscription did; run it again, with `after` set to the last cursor')
}

// An async iterator whose `return` also ends the request: that of a generator waits for the next event first.
function subscribe(params, headers) {
  const abort = new AbortController()
  const stream = results(params, headers, abort.signal)
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      try {
        return await stream.next()
      } catch (err) {
        if (abort.signal.aborted) return { done: true, value: undefined }
        throw err
      }
    },
    async return() {
      abort.abort()
      return { done: true, value: undefined }
    },
  }
}

function isSubscription({ operationName }, document) {
  const operations = (document?.definitions ?? []).filter((d) => d.kind === 'OperationDefinition')
  const chosen = operationName ? operations.find((o) => o.name?.value === operationName) : operations[0]
  return chosen?.operation === 'subscription'
}

async function fetcher(params, { headers = {}, documentAST } = {}) {
  if (isSubscription(params, documentAST)) return subscribe(params, headers)
  return readJson(await post(params, headers, JSON_TYPES))
}

const logo = createElement(
  'a',
  { className: 'logo', href: '/schema.graphql', title: 'the schema as text' },
  createElement('img', { src: '/graphiql/favicon.svg', alt: '', width: 24, height: 24 }),
  'OpenMeet gateway',
)
ReactDOM.createRoot(document.getElementById('graphiql')).render(
  createElement(
    GraphiQL,
    { fetcher, defaultQuery: DEFAULT_QUERY, isHeadersEditorEnabled: true, inputValueDeprecation: true },
    createElement(GraphiQL.Logo, null, logo),
  ),
)
