// Fails when an entry, minified and gzipped, outgrows what the README promises.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const CORE_BYTES = 9 * 1024;
const REACT_BYTES = 2 * 1024;

async function sizeOf(...entries) {
  const { outputFiles } = await build({
    stdin: {
      contents: entries.map((entry) => `export * from './src/${entry}';`).join('\n'),
      resolveDir: '.',
    },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
    write: false,
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

function hold(name, bytes, limit) {
  console.log(`${name}: ${bytes} B gzip (limit ${limit})`);
  if (bytes > limit) process.exitCode = 1;
}

const core = await sizeOf('index.ts');
hold('core', core, CORE_BYTES);
hold('react, beyond core', (await sizeOf('index.ts', 'react.ts')) - core, REACT_BYTES);
