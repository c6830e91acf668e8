import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export { default as WebSocket } from 'ws';

const SDK = fileURLToPath(new URL('../../../sdks/typescript', import.meta.url));

/** The TypeScript client as its sources are now; Node 20 does not read them itself. */
export async function sdk() {
  const file = join(mkdtempSync(join(tmpdir(), 'clarion-sdk-')), 'sdk.mjs');
  const options = ['--bundle', '--format=esm', '--log-level=warning', `--outfile=${file}`];
  execFileSync(join(SDK, 'node_modules/.bin/esbuild'), [join(SDK, 'src/index.ts'), ...options]);
  return import(pathToFileURL(file));
}
