// Bundles the plugin as the AMD module that Grafana loads. What Grafana itself has comes from Grafana.
import { build } from 'esbuild';
import { cp, mkdir, rm } from 'node:fs/promises';

const SHARED = ['react', 'react/jsx-runtime', 'react-dom', 'rxjs', '@grafana/data', '@grafana/runtime', '@grafana/ui'];
const names = JSON.stringify(SHARED);

await rm('dist', { recursive: true, force: true });
await mkdir('dist', { recursive: true });
await build({
  entryPoints: ['src/module.ts'],
  outfile: 'dist/module.js',
  bundle: true,
  minify: true,
  sourcemap: true,
  format: 'cjs',
  target: 'es2022',
  jsx: 'automatic',
  external: SHARED,
  // The tests of the page and of the plugin share no state with this: `process` is not there in a browser.
  define: { 'process.env.NODE_ENV': '"production"' },
  banner: { js: `define(${names},function(){var given=arguments,names=${names},module={exports:{}},exports=module.exports;function require(name){return given[names.indexOf(name)]}` },
  footer: { js: 'return module.exports});' },
});
await cp('src/plugin.json', 'dist/plugin.json');
await cp('src/img', 'dist/img', { recursive: true });
await cp('README.md', 'dist/README.md');
