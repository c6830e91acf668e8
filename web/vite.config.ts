import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [react()],
  resolve: {
    // From source: a fresh clone builds the app without building the SDK first.
    alias: {
      '@clarion/client/react': sdk('react.ts'),
      '@clarion/client': sdk('index.ts'),
    },
    // The SDK's folder may have a React of its own, for its tests.
    dedupe: ['react', 'react-dom'],
  },
  build: {
    target: 'es2022',
    // The server's policy is `default-src 'self'`: nothing inline, no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { '/ws': { target: 'ws://127.0.0.1:8080', ws: true } },
  },
  test: { include: ['test/**/*.test.ts'] },
});

function sdk(file: string): string {
  return fileURLToPath(new URL(`../sdks/typescript/src/${file}`, import.meta.url));
}
