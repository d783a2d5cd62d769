import { describe, expect, it } from 'vitest';
import type { Line } from '../api/loki';
import { originOf } from './context-origin';
import { write } from './export';
import { FieldCounts, fieldsOf, topValues } from './fields';
import { remembered } from './history';
import { errorPlace, languageOf, logPart, logsFor, searchWords, selectorOf, toggleEverywhere, toggleField, toggleMatcher, withLineFilter } from './language';
import { marked } from './line';
import { placeOf } from './logql';
import { PatternCounts, patternOf } from './patterns';
import { childrenOf, nodeText } from './plan';
import { inOrder, unknownOf } from './use-lines';

let id = 0;
const line = (ns: string, text: string, labels: Record<string, string> = {}): Line => ({ id: (id += 1), at: Number(ns.slice(0, -6)), ns, text, labels });

describe('language', () => {
  const check = (text: string, expected: 'promql' | 'logql') => expect(languageOf(text), text).toBe(expected);
  it('is told by what an expression holds', () => {
    check('up', 'promql');
    check('rate(http_requests_total{job="a|=b"}[5m])', 'promql');
    check('{__name__="up"}', 'promql');
    check('a or b != c', 'promql');
    check('{job="x"}', 'logql');
    check('{job="x"} |= "y"', 'logql');
    check('sum by (level) (count_over_time({job="x"} | json [5m]))', 'logql');
    check('rate({job="x"}[1m])', 'logql');
    check('rate({app="web"} |= "timeout" [5m])', 'logql');
    check('sum by (app) (rate({app="web"} |= "a[b" [5m])) / sum by (app) (rate(http_requests_total[5m]))', 'promql');
    check('sum(rate({app="web"} | json | took > 5 [5m])) > 3', 'logql');
    check('up and on (app) count_over_time({app="web"} != "x" [5m])', 'promql');
  });
  it('toggles matchers', () => {
    const toggle = (text: string, name: string, value: string, isEqual: boolean, expected: string) => {
      const changed = toggleMatcher(text, name, value, isEqual);
      expect(changed).toBe(expected);
    };
    toggle('{a="b"} | json', 'pod', 'p', true, '{a="b", pod="p"} | json');
    toggle('{a="b", pod="p"}', 'pod', 'p', true, '{a="b"}');
    toggle('{a="b", pod="p"}', 'pod', 'p', false, '{a="b", pod!="p"}');
    toggle('{}', 'pod', 'a"}b', true, '{pod="a\\"}b"}');
    toggle('{a="x,y"}', 'b', 'c', true, '{a="x,y", b="c"}');
  });
  it('narrows every selector of PromQL', () => {
    const check = (text: string, expected: string) => expect(toggleEverywhere(text, 'job', 'x')).toBe(expected);
    check('up', 'up{job="x"}');
    check('rate(a_total[5m])', 'rate(a_total{job="x"}[5m])');
    check('sum by (mode, b) (rate(a{c="d}"}[5m])) / on (job) group_left (n) b:c > bool 1e3', 'sum by (mode, b) (rate(a{c="d}", job="x"}[5m])) / on (job) group_left (n) b:c{job="x"} > bool 1e3');
    check('{__name__="a"} offset 5m', '{__name__="a", job="x"} offset 5m');
    check('topk(3, a{job="x"})', 'topk(3, a{})');
    check('time() - a', 'time() - a{job="x"}');
  });
  it('filters fields behind their parser, and takes it back', () => {
    const once = toggleField('{a="b"}', 'status', '500', true, 'json');
    expect(once).toBe('{a="b"} | json | status = "500"');
    expect(toggleField(once, 'path', '/', false, 'json')).toBe('{a="b"} | json | status = "500" | path != "/"');
    expect(toggleField(once, 'status', '500', true, 'json')).toBe('{a="b"} | json');
  });
  it('finds the selector and the pipeline inside', () => {
    expect(logPart('sum(rate({a="["} |= "x" [5m]))')).toBe('{a="["} |= "x"');
    expect(selectorOf('count_over_time({a="}"} | json [1m])')).toBe('{a="}"}');
    expect(withLineFilter('{a="b"} | json', '|>', 'x <_>')).toBe('{a="b"} |> `x <_>` | json');
  });
  it('knows which words are searched', () => {
    expect(searchWords('{a="b"} |= "x \\"y\\"" |~ `(?i)z+` != "no"')).toEqual([{ word: 'x "y"', isPattern: false }, { word: '(?i)z+', isPattern: true }]);
    expect(marked('a XX b x', [{ word: '(?i)x+', isPattern: true }])).toEqual(['a ', 'XX', ' b ', 'x', '']);
    expect(marked('a.b', [{ word: '.', isPattern: false }])).toEqual(['a', '.', 'b']);
    expect(marked('text', [{ word: '(', isPattern: true }])).toEqual(['text']);
  });
  it('carries labels from series to lines', () => {
    expect(logsFor({ namespace: 'n', pod: 'p', cpu: '0' }, ['namespace', 'pod'])).toBe('{namespace="n", pod="p"}');
    expect(logsFor({ instance: 'vm:9100' }, ['node'])).toBe('{node="vm"}');
    expect(logsFor({ le: '1' }, ['node'])).toBeUndefined();
  });
  it('finds the place that an error names', () => {
    expect(errorPlace('invalid parameter "query": 1:6: parse error: unclosed left parenthesis', 'sum((')).toEqual({ from: 4, to: 5 });
    expect(errorPlace('parse error at line 1, col 11: syntax error: unexpected jsn', '{a="b"} | jsn x')).toEqual({ from: 10, to: 13 });
    expect(errorPlace('parse error at line 2, col 1: x', 'a\nbc')).toEqual({ from: 2, to: 4 });
    expect(errorPlace('timeout', 'up')).toBeUndefined();
  });
});

describe('completion', () => {
  const check = (before: string, expected: object) => expect(placeOf(before)).toMatchObject(expected);
  it('knows where the cursor stands', () => {
    check('{', { kind: 'name', from: 1, selector: '' });
    check('{a="b", po', { kind: 'name', from: 8, selector: '{a="b"}' });
    check('{a="b", pod=~"we', { kind: 'value', name: 'pod', from: 14, selector: '{a="b"}' });
    check('{a="b"} | js', { kind: 'stage', from: 10 });
    check('sum(count_', { kind: 'call', from: 4 });
  });
});

describe('fields', () => {
  it('come from JSON, also within, and from logfmt', () => {
    expect(fieldsOf('{"a":1,"b":{"c-d":"x"},"e":[1]}').map(({ name, value }) => [name, value])).toEqual([['a', '1'], ['b_c_d', 'x']]);
    expect(fieldsOf('level=info msg="it is" took=3ms').map(({ name, value }) => [name, value])).toEqual([['level', 'info'], ['msg', 'it is'], ['took', '3ms']]);
    expect([fieldsOf('only one=pair here'), fieldsOf('{broken'), fieldsOf('plain words')]).toEqual([[], [], []]);
  });
  it('are counted', () => {
    const counts = new FieldCounts();
    counts.take([line('1000000', '{"s":200}', { app: 'x' }), line('1000000', '{"s":200}', { app: 'x' }), line('1000000', '{"s":500}', { app: 'y' })]);
    expect(counts.sorted().map(({ name, lines }) => [name, lines])).toEqual([['app', 3], ['s', 3]]);
    expect(topValues(counts.sorted()[1]!, 5)).toEqual([['200', 2], ['500', 1]]);
  });
});

describe('patterns', () => {
  const check = (text: string, expected: string) => expect(patternOf(text)).toBe(expected);
  it('leave out what changes', () => {
    check('GET /x took 12ms from 10.0.0.1:80', 'GET /x took <_> from <_>');
    check('user "ann 7" has 3f2504e0-4f89-11d3-9a0c-0305e82c3301', 'user <_> has <_>');
    check('{"id": 8, "msg": "cache miss"}', '{"id": <_>, "msg": "cache miss"}');
    check('2026-11-20T16:00:00.123Z start', '<_> start');
  });
  it('are counted with their share of the time', () => {
    const counts = new PatternCounts(0, 100);
    counts.take([line('0000000', 'a 1'), line('99000000', 'a 2'), line('99000000', 'b')]);
    const [first] = counts.sorted();
    expect([first!.text, first!.lines, first!.spark[0], first!.spark.at(-1)]).toEqual(['a <_>', 2, 1, 1]);
  });
});

describe('lines', () => {
  it('join pages that meet within an instant', () => {
    const known = [line('1000000005', 'b'), line('1000000009', 'z')];
    const page = [line('1000000001', 'a'), line('1000000005', 'c'), line('1000000005', 'b')];
    expect(unknownOf(page, known).map(({ text }) => text)).toEqual(['a', 'c']);
    expect(unknownOf(page, []).length).toBe(3);
  });
  it('are put in order as they arrive', () => {
    const old = [line('1000000001', 'a'), line('1000000005', 'c')];
    expect(inOrder(old, [line('1000000007', 'd'), line('1000000003', 'b')]).map(({ text }) => text)).toEqual(['a', 'b', 'c', 'd']);
  });
  it('become files', () => {
    const lines = [line('1700000000000000001', 'say "hi"', { a: 'b' })];
    expect(write(lines, 'txt')).toBe('say "hi"\n');
    expect(write(lines, 'csv')).toBe('"time","line","a"\n"2023-11-14T22:13:20.000000001Z","say ""hi""","b"\n');
    expect(JSON.parse(write(lines, 'ndjson'))).toEqual({ time: '2023-11-14T22:13:20.000000001Z', line: 'say "hi"', labels: { a: 'b' } });
  });
  it('have an origin without what a pipeline or a level adds', () => {
    expect(originOf({ filename: '/a', level: 'info', status: '200' }, ['filename', 'level'])).toBe('{filename="/a"}');
  });
});

describe('history', () => {
  it('keeps each once, the newest first, and what has a star', () => {
    const many = Array.from({ length: 70 }, (_, i) => ({ text: `q${i}`, starred: i === 69 }));
    const next = remembered(many, 'q3');
    expect([next[0]!.text, next.filter(({ text }) => text === 'q3').length, next.at(-1)!.text]).toEqual(['q3', 1, 'q69']);
    expect(next.length).toBe(61);
  });
});

describe('plan', () => {
  it('says what nodes do', () => {
    const selector = { type: 'matrixSelector', name: 'up', range: 60_000, matchers: [{ name: '__name__', type: '=', value: 'up' }, { name: 'a', type: '=~', value: 'b' }] };
    const call = { type: 'call', func: { name: 'rate' }, args: [selector] };
    const sum = { type: 'aggregation', op: 'sum', grouping: ['a'], without: false, expr: call, param: null };
    expect([nodeText(sum), nodeText(call), nodeText(selector)]).toEqual(['sum by (a)', 'rate()', 'up{a=~"b"}[60s]']);
    expect(childrenOf(sum)).toEqual([call]);
    expect(nodeText({ type: 'logRange', text: 'rate({a="b"} |= "c" [1m])' })).toBe('rate({a="b"} |= "c" [1m])');
  });
});
