import { defineConfig } from 'vite';

// `npm run dev` serves the page with a running Binnacle behind it.
const backend = 'http://127.0.0.1:9090';

export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: { target: 'es2022', chunkSizeWarningLimit: 200 },
  server: { proxy: { '/api': backend, '/loki': { target: backend, ws: true }, '/binnacle': backend } },
});
