import { defineConfig } from 'vite';

// `npm run dev` serves the page with a running Binnacle behind it.
const backend = process.env.BINNACLE_URL ?? 'http://127.0.0.1:9090';

export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  // The editor is a chunk of its own, loaded with Explore: it may be large, the first view may not.
  build: { target: 'es2022', chunkSizeWarningLimit: 500 },
  server: { proxy: { '/api': backend, '/loki': { target: backend, ws: true }, '/binnacle': backend } },
});
