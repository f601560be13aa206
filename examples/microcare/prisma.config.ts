// How the Prisma CLI reaches PostgreSQL in this project.
//
// Prisma normally downloads a native "schema engine" when it is installed. This project does without: the engine that
// comes inside the npm package runs in Node.js (`engine: 'js'`) and talks to the server through node-postgres. So
// `npm ci --ignore-scripts` is all an air-gapped machine needs, and DATABASE_URL is all the CLI needs.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'prisma/config'
import { PrismaPg } from '@prisma/adapter-pg'

// With a config file present the CLI reads no .env by itself. A variable that is already set is never overwritten.
const dotenv = join(__dirname, '.env')
if (existsSync(dotenv)) process.loadEnvFile(dotenv)

// The CLI still looks for the native engines before it picks the one above, and would try to fetch them: a file of that
// name has to exist. `migrate resolve` also runs one, to ask whether the database can be reached, and takes success for a
// yes. So the stand-in is the program that does nothing, successfully; the real connection is made by the adapter below.
const standIn = ['/bin/true', '/usr/bin/true'].find((path) => existsSync(path))
process.env.PRISMA_QUERY_ENGINE_LIBRARY ??= standIn
process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= standIn
process.env.CHECKPOINT_DISABLE ??= '1' // no call home for news about updates

// The engine guards its 10 s wait for the migration lock with a timer that it never clears. Node.js would sit that timer
// out after the work is done, with the lock still held. An unref'ed timer still fires, but keeps no process alive.
const LONGEST_PATIENCE_MS = 10_000
const plainSetTimeout = globalThis.setTimeout
globalThis.setTimeout = Object.assign(
  (callback: (...args: any[]) => void, ms?: number, ...args: any[]) => {
    const timer = plainSetTimeout(callback, ms, ...args)
    if ((ms ?? 0) >= LONGEST_PATIENCE_MS) timer.unref()
    return timer
  },
  plainSetTimeout,
) as typeof setTimeout

type Connection = Awaited<ReturnType<PrismaPg['connect']>>

// For well-known errors the adapter keeps the kind and drops the text: "Null constraint failed:" and no column. Somebody
// has to repair the database with what the ledger says, so hand on what the server said, with its code in the message:
// a `code` of its own would make the engine shorten the text again.
function asServerSaid(error: any) {
  if (!error?.severity || !error.code) return undefined // not from the server: no connection, TLS, ...
  const { severity, code, message, detail, hint, where } = error
  const lines = [message, detail && `DETAIL: ${detail}`, hint && `HINT: ${hint}`, where && `CONTEXT: ${where}`]
  const text = [...lines.filter(Boolean), `Database error code: ${code}`].join('\n')
  const cause = { kind: 'postgres', code: '', severity, message: text }
  return Object.assign(new Error(text), { name: 'DriverAdapterError', cause })
}

// The stock adapter cuts a migration at every semicolon, also inside comments, strings and $$ bodies, and sends the
// pieces one by one. Prisma's native engine sends the file as one message, and so does this: the server then parses it,
// runs it as one implicit transaction, and lets a lone CREATE INDEX CONCURRENTLY through.
function sendScriptsWhole(connection: Connection): Connection {
  connection.executeScript = async (script) => {
    try {
      await connection.underlyingDriver().query(script)
    } catch (error) {
      throw asServerSaid(error) ?? (connection as any).onError(error) // protected, but the adapter's own way for the rest
    }
  }
  return connection
}

// What node-postgres has to be told about a Prisma URL. It reads user, password, host, database, `options` and most other
// parameters from the URL by itself.
function connectionTo(url: string) {
  const [base, query] = url.split(/\?(.*)/s)
  const parameters = new URLSearchParams(query)

  // `schema` is Prisma's own parameter. The adapter wants it as an option, to tell the engine where to look. The search
  // path makes unqualified SQL land there, as the native engine's does. It goes to the server as one more startup option,
  // after those of the URL, such as ?options=-c%20lock_timeout%3D3s.
  const schema = parameters.get('schema') ?? 'public'
  const searchPath = `"${schema.replaceAll('"', '""')}"`.replace(/[\\\s]/g, '\\$&') // a bare space would end the option
  parameters.set('options', `${parameters.get('options') ?? ''} -c search_path=${searchPath}`.trim())

  const pool = {
    connectionString: `${base}?${parameters}`,
    max: 1, // the advisory lock and every SET belong to a session: use one, always the same
    allowExitOnIdle: true, // an idle pool must not keep the finished CLI alive
  }
  return { pool, schema }
}

// When the engine compares schemas it reads catalogue columns of PostgreSQL's internal type "char", which the adapter
// refuses. A "char" arrives as text like any other, so it is announced as text.
const CHAR = 18
const TEXT = 25
function readCharAsText(connection: Connection): Connection {
  const pool: any = connection.underlyingDriver()
  const query = pool.query.bind(pool)
  pool.query = async (...args: any[]) => {
    const result = await query(...args)
    for (const field of result.fields ?? []) if (field.dataTypeID === CHAR) field.dataTypeID = TEXT
    return result
  }
  return connection
}

class MigrationPg extends PrismaPg {
  private readonly url: string

  constructor(url: string) {
    const { pool, schema } = connectionTo(url)
    super(pool, { schema })
    this.url = url
  }

  override async connect() {
    return readCharAsText(sendScriptsWhole(await super.connect()))
  }

  // For `migrate dev`. The stock method names a database of its own beside a connection string that names the real one;
  // the string wins, and the "shadow" is the real database. So the shadow gets a URL of its own here.
  override async connectToShadowDb() {
    const name = `prisma_migrate_shadow_db_${crypto.randomUUID()}`
    const server = await this.connect()
    await server.executeScript(`CREATE DATABASE "${name}"`)

    const shadow = await new MigrationPg(this.url.replace(/^(\w+:\/\/[^/?]*)[^?]*/, `$1/${name}`)).connect()
    const disconnect = shadow.dispose.bind(shadow)
    shadow.dispose = async () => {
      await disconnect()
      await server.executeScript(`DROP DATABASE "${name}" WITH (FORCE)`)
      await server.dispose()
    }
    return shadow
  }
}

function adapter() {
  const url = process.env.DATABASE_URL
  if (!url) throw new Error('DATABASE_URL is not set. Export it, or write it into the .env beside prisma.config.ts.')
  return new MigrationPg(url)
}

export default defineConfig({
  schema: join('prisma', 'schema.prisma'),
  experimental: { adapter: true },
  engine: 'js',
  adapter: async () => adapter(),
})
