// Fails when the minified, gzipped core outgrows what the README promises.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const LIMIT_BYTES = 9 * 1024;

const { outputFiles } = await build({
  entryPoints: ['src/index.ts'],
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  write: false,
});
const raw = outputFiles[0].contents;
const gzip = gzipSync(raw, { level: 9 }).length;
console.log(`core: ${raw.length} B minified, ${gzip} B gzip (limit ${LIMIT_BYTES})`);
if (gzip > LIMIT_BYTES) process.exit(1);
