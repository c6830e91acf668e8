import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export { default as WebSocket } from 'ws';

const SDK = fileURLToPath(new URL('../../../sdks/typescript', import.meta.url));

/** The TypeScript client as its sources are now; Node 20 does not read them itself. */
export async function sdk() {
  const folder = mkdtempSync(join(tmpdir(), 'clarion-sdk-'));
  const file = join(folder, 'sdk.mjs');
  const options = ['--bundle', '--format=esm', '--log-level=warning', `--outfile=${file}`];
  execFileSync(join(SDK, 'node_modules/.bin/esbuild'), [join(SDK, 'src/index.ts'), ...options]);
  const module = await import(pathToFileURL(file));
  rmSync(folder, { recursive: true });
  return module;
}
