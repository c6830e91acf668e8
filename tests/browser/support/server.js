import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const BINARY =
  process.env.CLARION_BIN ??
  fileURLToPath(new URL('../../../target/debug/clarion', import.meta.url));
const API_KEY = 'browser-tests-key-0123456789abcdef';
/** The defaults, rooms that let nobody in, and rooms that keep nothing. */
const SETTINGS = `
[[rooms]]
match = "closed/**"
join = "nobody"

[[rooms]]
match = "unlogged/**"
log = "none"
presence = true

[[rooms]]
match = "**"
log = "memory"
presence = true
`;
/** People may write to one another, as with `make run`. */
const DIRECT = `
[[rooms]]
match = "$user/*"
publish = "everyone"
`;
/** What `make run` starts the server with. */
const CHAT = fileURLToPath(new URL('../../../web/chat.toml', import.meta.url));
const START_MS = 10_000;

/** The real server, on a port and a data directory that outlive its process. */
export class Server {
  #port;
  #data;
  #process;

  /** With settings of these tests, with those of `make run`, and what is put before them. */
  static async start({ direct = true, asRun = false, settings: first = '' } = {}) {
    await access(BINARY).catch(() => {
      throw new Error(`no server at ${BINARY}: build it, or name it in CLARION_BIN`);
    });
    const server = new Server();
    server.#port = await freePort();
    server.#data = await mkdtemp(join(tmpdir(), 'clarion-browser-'));
    const own = direct ? SETTINGS + DIRECT : SETTINGS;
    const settings = asRun ? await readFile(CHAT, 'utf8') : own;
    await writeFile(join(server.#data, 'clarion.toml'), first + settings);
    await server.restart();
    const page = await (await fetch(server.url)).text();
    if (!page.includes('id="root"')) {
      throw new Error(`${BINARY} has no web app: run \`npm run build\` in web/ and build it again`);
    }
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Starts the process; resolves when it is ready. */
  async restart() {
    const listen = `127.0.0.1:${this.#port}`;
    const config = join(this.#data, 'clarion.toml');
    const args = ['serve', '--config', config, '--listen', listen, '--data-dir', this.#data];
    // Every CLARION_… variable is a setting, so the server does not get this process's own.
    const child = spawn(BINARY, args, {
      env: { PATH: process.env.PATH, CLARION_API_KEY: API_KEY },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said = (said + chunk).slice(-4_000);
    });
    this.#process = child;
    const deadline = Date.now() + START_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null) throw new Error(`the server ended: ${said}`);
      if (Date.now() > deadline) throw new Error(`the server is not ready: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  get port() {
    return this.#port;
  }

  get apiKey() {
    return API_KEY;
  }

  /** As a crash: no goodbye to anybody. */
  kill() {
    return this.#end('SIGKILL');
  }

  /** As a deploy does it. */
  terminate() {
    return this.#end('SIGTERM');
  }

  async #end(signal) {
    const exited = once(this.#process, 'exit');
    this.#process.kill(signal);
    await exited;
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.kill();
    await rm(this.#data, { recursive: true, force: true });
  }

  /** A token of this server's own key. */
  async token(user) {
    const args = ['token', 'create', '--user', user, '--data-dir', this.#data];
    const env = { PATH: process.env.PATH };
    return (await promisify(execFile)(BINARY, args, { env })).stdout.trim();
  }

  /** Publishes a chat message through the HTTP API. */
  publish(room, user, message) {
    const timestamp = new Date().toISOString();
    const payload = { user, message, timestamp };
    return this.api('/broadcast', { type: 'chat_message', payload, metadata: { room } });
  }

  /** Writes to a user as another does, who may be away. */
  write(to, user, message, name = user) {
    const payload = { user: name, message, timestamp: new Date().toISOString() };
    const metadata = { room: `$user/${to}`, from: { user } };
    return this.api('/v1/publish', { type: 'chat_message', payload, metadata });
  }

  /** The user id of the only one in a room. */
  async userIn(room) {
    const { clients } = await this.api(`/clients?room=${encodeURIComponent(room)}`);
    if (clients.length !== 1) throw new Error(`${clients.length} in ${room}`);
    return clients[0].user;
  }

  /** Asks the HTTP API; with a body, posts it. */
  async api(path, body) {
    const response = await fetch(this.url + path, {
      method: body ? 'POST' : 'GET',
      headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    return response.json();
  }

  async #isReady() {
    try {
      return (await fetch(`${this.url}/readyz`)).ok;
    } catch {
      return false;
    }
  }
}

async function freePort() {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
