import { describe, expect, it } from 'vitest';
import type { Alert } from './api';
import { align, stack } from './chart';
import { bytes, clock, duration, labelText, percent, short, tick } from './format';
import { rangeEndingNow } from './range';
import { formatRoute, parseRoute } from './route';
import { silenceFor } from './views/alerts';
import { withLabel, withSearch } from './views/logs';

describe('format', () => {
  it('prints numbers for people', () => {
    expect([bytes(0), bytes(1536), bytes(5e9), bytes(NaN)]).toEqual(['0 B', '1.5 KiB', '4.7 GiB', '–']);
    expect([short(0.000123456), short(12345), short(2.5e6), short(42)]).toEqual(['0.0001235', '12.3k', '2.5M', '42']);
    expect([percent(4.25), percent(55.5)]).toEqual(['4.3 %', '56 %']);
    expect([duration(59), duration(3700), duration(90000)]).toEqual(['59s', '1h 1m', '1d 1h']);
  });
  it('names the day of an older line', () => {
    const at = new Date(2026, 10, 20, 6, 25, 1, 7).getTime();
    expect(clock(at, at)).toBe('06:25:01.007');
    expect(clock(at, at + 86_400_000)).toBe('2026-11-20 06:25:01.007');
  });
  it('labels a time axis by its span', () => {
    const at = new Date(2026, 10, 20, 6, 5, 9).getTime() / 1000;
    expect([tick(at, 300), tick(at, 3600), tick(at, 604_800)]).toEqual(['06:05:09', '06:05', '11-20 06:05']);
  });
  it('writes a series as a selector', () => {
    expect(labelText({ __name__: 'up', job: 'a"b' })).toBe('up{job="a\\"b"}');
    expect(labelText({ __name__: 'up' })).toBe('up');
    expect(labelText({})).toBe('{}');
  });
});

describe('route', () => {
  it('keeps a query through the URL', () => {
    const q = '{job="x"} |= "a&b"';
    const route = parseRoute(formatRoute('logs', { q, range: undefined }));
    expect(route.view).toBe('logs');
    expect(route.params.get('q')).toBe(q);
    expect(route.params.has('range')).toBe(false);
  });
  it('starts at home', () => expect(parseRoute('').view).toBe('home'));
});

describe('range', () => {
  it('is aligned and bounded in points', () => {
    const range = rangeEndingNow('7d', 1_700_000_001_000);
    expect(range.end % range.step).toBe(0);
    expect((range.end - range.start) / range.step).toBeLessThanOrEqual(300);
  });
});

describe('chart', () => {
  const series = [
    { labels: { a: '1' }, points: [[1, 10], [3, 30]] as [number, number][] },
    { labels: { a: '2' }, points: [[2, 5], [3, NaN]] as [number, number][] },
  ];
  it('leaves gaps where a series has no value', () => {
    expect(align(series)).toEqual([[1, 2, 3], [10, null, 30], [null, 5, null]]);
  });
  it('stacks', () => expect(stack(align(series))).toEqual([[1, 2, 3], [10, 0, 30], [10, 5, 30]]));
});

describe('logs', () => {
  it('adds a filter for the search box and for a clicked label', () => {
    expect(withSearch('{a="b"}', 'x "y"')).toBe('{a="b"} |= "x \\"y\\""');
    expect(withLabel('{a="b"} | json', 'pod', 'p')).toBe('{a="b", pod="p"} | json');
    expect(withLabel('{}', 'pod', 'p')).toBe('{pod="p"}');
  });
});

describe('alerts', () => {
  it('prefills a silence with the labels of the alert', () => {
    const alert = { labels: { alertname: 'Down', job: 'x' } } as unknown as Alert;
    const silence = silenceFor(alert, 2, 'me', 'why', 0);
    expect(silence.matchers).toHaveLength(2);
    expect(silence.endsAt).toBe('1970-01-01T02:00:00.000Z');
  });
});
