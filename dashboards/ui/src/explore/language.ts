// Which language an expression is in, and small changes to it that clicks make. Text in, text out.

export type Language = 'promql' | 'logql';

/** What takes lines and gives numbers. */
export const RANGE_FUNCTIONS = [
  'count_over_time', 'rate', 'rate_counter', 'bytes_over_time', 'bytes_rate', 'absent_over_time', 'sum_over_time', 'avg_over_time',
  'min_over_time', 'max_over_time', 'first_over_time', 'last_over_time', 'stdvar_over_time', 'stddev_over_time', 'quantile_over_time',
];
/** Those that PromQL has not. */
const LOGS_ONLY = /\b(count_over_time|rate|bytes_rate|bytes_over_time|absent_over_time)\s*\(\s*\{/;
const STRING = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`/g;

/** The text with what strings hold blanked out, of the same length. */
export const blanked = (text: string): string => text.replace(STRING, (found) => found[0] + '_'.repeat(found.length - 2) + found[0]);

/** A selector of lines with its pipeline, up to the range that it is counted over. */
const COUNTED_LINES = /\{[^}]*\}\s*(?:\||!=|!~|!>)[^[]*\[[^\]]*\]/g;

/** Whether an expression counts lines beside metrics: PromQL with log range functions in it. */
export function isMixed(text: string): boolean {
  const code = blanked(text);
  const rest = code.replace(COUNTED_LINES, (found) => ' '.repeat(found.length));
  return rest !== code && !code.trim().startsWith('{') && selectorsOf(rest).length > 0;
}

/** LogQL where a selector has no metric's name, or a pipeline follows it; PromQL where there are metrics too. */
export function languageOf(text: string): Language {
  if (/__name__/.test(text) || isMixed(text)) return 'promql';
  const code = blanked(text).trim();
  if (/\|=|\|~|\|>|\}\s*!=|\}\s*!~|\}\s*\|/.test(code)) return 'logql';
  if (LOGS_ONLY.test(code) || code.startsWith('{')) return 'logql';
  return 'promql';
}

/** Whether a LogQL expression gives lines rather than numbers. */
export const givesLines = (text: string): boolean => text.trim().startsWith('{');

/** The first selector of an expression: where its braces are. */
function braces(text: string): [number, number] | undefined {
  const code = blanked(text);
  const [open, close] = [code.indexOf('{'), code.indexOf('}')];
  return open < 0 || close < open ? undefined : [open, close];
}

const PLAIN_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const quoted = (value: string): string => JSON.stringify(value);

/** A matcher added to a selector's inside; the opposite of the same one is taken out, the same one taken back. */
function toggled(inner: string, name: string, value: string, isEqual: boolean): string {
  const wanted = `${name}${isEqual ? '=' : '!='}${quoted(value)}`;
  const opposite = `${name}${isEqual ? '!=' : '='}${quoted(value)}`;
  const bare = (text: string) => text.replace(/\s+/g, '');
  const all = splitMatchers(inner);
  const kept = all.filter((one) => bare(one) !== bare(wanted) && bare(one) !== bare(opposite));
  return (all.some((one) => bare(one) === bare(wanted)) ? kept : [...kept, wanted]).join(', ');
}

/** Words of PromQL that are no metric. */
const WORDS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right', 'bool', 'offset', 'and', 'or', 'unless', 'atan2', 'start', 'end', 'inf', 'nan']);
const LABEL_LISTS = /\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g;

/** Where the selectors of a PromQL expression stand: the name's end, and the braces if there are any. */
function selectorsOf(text: string): { from: number; to: number; inner: string }[] {
  // Strings, lists of labels and what stands in braces or brackets hold no metric.
  const blank = (found: string) => '_'.repeat(found.length);
  const code = blanked(text).replace(LABEL_LISTS, (found) => ' '.repeat(found.length));
  const masked = code.replace(/\{[^}]*\}/g, (found) => `{${blank(found.slice(2))}}`).replace(/\[[^\]]*\]/g, (found) => ' '.repeat(found.length));
  const found: { from: number; to: number; inner: string }[] = [];
  for (const one of masked.matchAll(/([a-zA-Z_:][\w:]*)?(\s*\{_*\})|([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:{])/g)) {
    const word = one[1] ?? one[3];
    const start = one.index + (word?.length ?? 0);
    if (one[3] && (WORDS.has(one[3].toLowerCase()) || /[\d.]$/.test(masked.slice(0, one.index)))) continue;
    if (one[2]) {
      const open = text.indexOf('{', start);
      found.push({ from: open, to: one.index + one[0].length, inner: text.slice(open + 1, one.index + one[0].length - 1) });
    } else {
      found.push({ from: start, to: start, inner: '' });
    }
  }
  return found;
}

/** The same matcher in every selector of a PromQL expression, or taken out of them again. */
export function toggleEverywhere(text: string, name: string, value: string, isEqual = true): string {
  return selectorsOf(text).reduceRight((text, { from, to, inner }) => `${text.slice(0, from)}{${toggled(inner, name, value, isEqual)}}${text.slice(to)}`, text);
}

/** A matcher in the first selector of a LogQL expression, or taken out of it again. */
export function toggleMatcher(text: string, name: string, value: string, isEqual = true): string {
  const place = braces(text);
  if (!place) return text;
  const [open, close] = place;
  return `${text.slice(0, open)}{${toggled(text.slice(open + 1, close), name, value, isEqual)}}${text.slice(close + 1)}`;
}

/** A matcher of any kind in every selector (PromQL) or the first (LogQL), unless it is there. */
export function withMatcher(text: string, language: Language, matcher: string): string {
  const places = language === 'promql' ? selectorsOf(text) : [braces(text)].flatMap((place) => (place ? [{ from: place[0], to: place[1] + 1, inner: text.slice(place[0] + 1, place[1]) }] : []));
  return places.reduceRight((text, { from, to, inner }) => {
    const all = splitMatchers(inner);
    return all.includes(matcher) ? text : `${text.slice(0, from)}{${[...all, matcher].join(', ')}}${text.slice(to)}`;
  }, text);
}

function splitMatchers(inner: string): string[] {
  const code = blanked(inner);
  const parts: string[] = [];
  let start = 0;
  for (let i = 0; i <= code.length; i += 1) {
    if (i === code.length || code[i] === ',') {
      const part = inner.slice(start, i).trim();
      if (part) parts.push(part);
      start = i + 1;
    }
  }
  return parts;
}

/** The selector and pipeline inside a LogQL expression, whatever counts them. */
export function logPart(text: string): string {
  if (givesLines(text)) return text.trim();
  const code = blanked(text);
  const start = code.indexOf('{');
  const end = code.indexOf('[', start);
  return start < 0 ? '{}' : text.slice(start, end < 0 ? undefined : end).trim();
}

/** The first selector alone. */
export function selectorOf(text: string): string {
  const place = braces(text);
  return place ? text.slice(place[0], place[1] + 1) : '{}';
}

const hasParser = (text: string, parser: string): boolean => new RegExp(`\\|\\s*${parser}\\b`).test(blanked(text));

/** A filter on a field: in the selector for a stream's label, behind a parser for what lines hold. */
export function toggleField(text: string, name: string, value: string, isEqual: boolean, parser?: 'json' | 'logfmt'): string {
  if (!parser) return toggleMatcher(text, name, value, isEqual);
  const filter = `| ${name} ${isEqual ? '=' : '!='} ${quoted(value)}`;
  if (text.includes(filter)) return text.replace(filter, '').replace(/\s+$/, '').replace(/ {2,}/g, ' ');
  const parsed = hasParser(text, parser) ? text.trim() : `${text.trim()} | ${parser}`;
  return `${parsed} ${filter}`;
}

export const withLineFilter = (text: string, operator: string, value: string): string => {
  const close = braces(text)?.[1];
  if (close === undefined) return text;
  return `${text.slice(0, close + 1)} ${operator} ${value.includes('`') ? quoted(value) : `\`${value}\``}${text.slice(close + 1)}`;
};

/** What line filters look for, to be marked in the lines. */
export function searchWords(text: string): { word: string; isPattern: boolean }[] {
  const found: { word: string; isPattern: boolean }[] = [];
  for (const [, operator, literal] of text.matchAll(/(\|=|\|~)\s*("(?:[^"\\]|\\.)*"|`[^`]*`)/g)) {
    let word = literal!.slice(1, -1);
    if (literal!.startsWith('"')) {
      try {
        word = JSON.parse(literal!) as string;
      } catch {
        continue;
      }
    }
    if (word) found.push({ word, isPattern: operator === '|~' });
  }
  return found;
}

/** Lines per step and level, for the histogram above the lines. */
export const volumeQuery = (text: string, stepSeconds: number): string => `sum by (level) (count_over_time(${text} [${stepSeconds}s]))`;

/** Labels by which lines and series of one thing can be found from each other. */
const CARRIED = ['cluster', 'namespace', 'pod', 'container', 'node', 'filename', 'job', 'service', 'app'];

/** A selector of lines for the labels of a series, by the names that lines have. */
export function logsFor(labels: Record<string, string>, known: string[]): string | undefined {
  const shared = CARRIED.filter((name) => labels[name] && known.includes(name));
  const node = labels.instance && !labels.node && known.includes('node') ? labels.instance.replace(/:\d+$/, '') : undefined;
  const matchers = shared.map((name) => `${name}=${quoted(labels[name]!)}`);
  if (matchers.length === 0 && node) matchers.push(`node=${quoted(node)}`);
  return matchers.length ? `{${matchers.join(', ')}}` : undefined;
}

/** A look at the metrics of what wrote a line. */
export function metricsFor(labels: Record<string, string>): string {
  if (labels.pod && labels.namespace) {
    return `sum by (container) (rate(container_cpu_usage_seconds_total{namespace=${quoted(labels.namespace)}, pod=${quoted(labels.pod)}}[1m]))`;
  }
  return 'sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))';
}

/** Where an error says it is, as an offset in the text. */
export function errorPlace(message: string, text: string): { from: number; to: number } | undefined {
  const found = /(?:at line |^|[^\d])(\d+)(?::|, col(?:umn)? )(\d+)/.exec(message);
  if (!found) return undefined;
  const lines = text.split('\n');
  const line = Number(found[1]) - 1;
  if (line < 0 || line >= lines.length) return undefined;
  const before = lines.slice(0, line).reduce((sum, one) => sum + one.length + 1, 0);
  const from = Math.min(before + Math.max(0, Number(found[2]) - 1), Math.max(0, text.length - 1));
  const word = /^[\w:]+/.exec(text.slice(from));
  return { from, to: Math.min(text.length, from + Math.max(1, word?.[0].length ?? 1)) };
}

export const isPlainName = (name: string): boolean => PLAIN_NAME.test(name);
