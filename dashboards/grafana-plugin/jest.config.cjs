// Everything goes through esbuild, packages too: Grafana's libraries bring some that are ES modules only.
module.exports = {
  testEnvironment: 'jsdom',
  transform: { '\\.[cm]?[jt]sx?$': '<rootDir>/jest-esbuild.cjs' },
  transformIgnorePatterns: [],
  moduleNameMapper: { '\\.(css|svg)$|^react-inlinesvg$': '<rootDir>/jest-nothing.cjs', '^(react|react-dom|react/jsx-runtime)$': '<rootDir>/node_modules/$1' },
  setupFiles: ['<rootDir>/jest-setup.cjs'],
  roots: ['<rootDir>/src'],
};
