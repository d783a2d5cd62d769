// Matchers as people write them, `alertname="Down", job=~"web.*"`, and as the API takes them.

import type { Matcher } from '../api/alertmanager';
import type { Labels } from '../api/http';

const MATCHER = /^\s*([a-zA-Z_][\w.]*|"(?:[^"\\]|\\.)*")\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^\s,"{}]*)\s*(,|$)/;

const plain = (text: string): string => (text.startsWith('"') ? (JSON.parse(text) as string) : text);

/** The matchers of a text, or where it stops making sense. */
export function parseMatchers(text: string): Matcher[] | { at: number } {
  const start = /^\s*\{/.exec(text)?.[0].length ?? 0;
  const inner = start ? text.slice(start).replace(/\}\s*$/, '') : text;
  const found: Matcher[] = [];
  let at = 0;
  while (inner.slice(at).trim()) {
    const one = MATCHER.exec(inner.slice(at));
    if (!one) return { at: start + at };
    try {
      found.push({ name: plain(one[1]!), value: plain(one[3]!), isRegex: one[2]!.endsWith('~'), isEqual: !one[2]!.startsWith('!') });
    } catch {
      return { at: start + at };
    }
    at += one[0].length;
  }
  return found;
}

export const writeMatcher = (matcher: Matcher): string =>
  `${matcher.name}${matcher.isEqual ? '=' : '!'}${matcher.isRegex ? '~' : matcher.isEqual ? '' : '='}${JSON.stringify(matcher.value)}`;

export const writeMatchers = (matchers: Matcher[]): string => matchers.map(writeMatcher).join(', ');

/** Matchers that take exactly these labels. */
export const matchersOf = (labels: Labels): Matcher[] =>
  Object.entries(labels).map(([name, value]) => ({ name, value, isRegex: false, isEqual: true }));

/** Labels of a text in which every matcher is an equality. */
export function parseLabels(text: string): Labels | undefined {
  const matchers = parseMatchers(text);
  if (!Array.isArray(matchers) || matchers.some((one) => one.isRegex || !one.isEqual)) return undefined;
  return Object.fromEntries(matchers.map(({ name, value }) => [name, value]));
}
