import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('../../../web', import.meta.url));
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

/**
 * The web application with React's development build, which mounts everything twice in StrictMode,
 * before the WebSocket of the real server.
 */
export class DevelopmentApp {
  #folder;
  #server;
  #sockets = new Set();

  static async before(port) {
    const app = new DevelopmentApp();
    app.#folder = await mkdtemp(join(tmpdir(), 'clarion-web-'));
    await build(app.#folder);
    app.#server = createServer((request, response) => app.#answer(request, response));
    app.#server.on('connection', (socket) => {
      app.#sockets.add(socket);
      socket.on('close', () => app.#sockets.delete(socket));
    });
    app.#server.on('upgrade', (request, socket, head) => carry(request, socket, head, port));
    app.#server.listen(0, '127.0.0.1');
    await once(app.#server, 'listening');
    return app;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  async close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #answer({ url }, response) {
    const path = url === '/' ? '/index.html' : url;
    try {
      const body = await readFile(join(this.#folder, path));
      response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'text/plain' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }
}

async function build(folder) {
  const args = ['build', '--mode', 'development', '--logLevel', 'error'];
  const child = spawn(join(WEB, 'node_modules/.bin/vite'), [...args, '--outDir', folder], {
    cwd: WEB,
    env: { ...process.env, NODE_ENV: 'development' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`vite ended with ${code}`);
}

/** Hands the handshake on as it came, and then everything. */
function carry({ method, url, rawHeaders }, socket, head, port) {
  const other = connect(port, '127.0.0.1');
  const lines = [`${method} ${url} HTTP/1.1`];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  other.write(`${lines.join('\r\n')}\r\n\r\n`);
  other.write(head);
  for (const [one, two] of [
    [socket, other],
    [other, socket],
  ]) {
    one.on('error', () => {});
    one.on('close', () => two.destroy());
    one.pipe(two);
  }
}
