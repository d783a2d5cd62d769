const { transformSync } = require('esbuild');

module.exports = {
  process(source, path) {
    const ending = /\.([jt]sx?)$/.exec(path)?.[1];
    const { code, map } = transformSync(source, { loader: ending ?? 'js', format: 'cjs', target: 'node20', jsx: 'automatic', sourcemap: true, sourcefile: path });
    return { code, map };
  },
};
