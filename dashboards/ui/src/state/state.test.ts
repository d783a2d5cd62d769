import { beforeAll, describe, expect, it, vi } from 'vitest';
import { bytes, clock, count, duration, formatFor, labelText, percent, seconds, short, shortNames, tick } from './format';
import { formatRoute, parseRoute } from './route';
import { parseLength, rangeOf, windowOf } from './time';

beforeAll(() => vi.stubGlobal('localStorage', { getItem: () => null, setItem: () => {} }));

describe('format', () => {
  it('prints numbers for people', () => {
    expect([bytes(0), bytes(1536), bytes(5e9), bytes(NaN)]).toEqual(['0 B', '1.5 KiB', '4.7 GiB', '–']);
    expect([short(0.000123456), short(12345), short(2.5e6), short(42)]).toEqual(['0.0001235', '12.3k', '2.5M', '42']);
    expect([percent(4.25), percent(55.5)]).toEqual(['4.3 %', '56 %']);
    expect([duration(59), duration(3700), duration(90_000)]).toEqual(['59s', '1h 1m', '1d 1h']);
    expect([seconds(0.00002), seconds(0.25), seconds(3)]).toEqual(['20 µs', '250 ms', '3 s']);
    expect(count(1_234_567)).toBe('1,234,567');
  });
  it('takes the unit from the names in an expression', () => {
    expect(formatFor('node_memory_MemFree_bytes')(2048)).toBe('2.0 KiB');
    expect(formatFor('rate(node_disk_read_bytes_total[1m])')(2048)).toBe('2.0 KiB/s');
    expect(formatFor('rate(node_cpu_seconds_total[1m])')(0.5)).toBe('0.5');
    expect(formatFor('a_bytes / b_bytes')(0.5)).toBe('0.5');
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
  it('writes a series as a selector, and shorter where others are beside it', () => {
    expect(labelText({ __name__: 'up', job: 'a"b' })).toBe('up{job="a\\"b"}');
    expect([labelText({ __name__: 'up' }), labelText({})]).toEqual(['up', '{}']);
    expect(shortNames([{ a: '1', b: 'x' }, { a: '1', b: 'y' }])).toEqual(['x', 'y']);
    expect(shortNames([{ __name__: 'm', a: '1' }, { __name__: 'n', a: '1' }])).toEqual(['m', 'n']);
  });
});

describe('route', () => {
  it('keeps a query through the URL, whatever it holds', () => {
    const q = '{job="x"} |= "a&b?c=d#e"';
    const route = parseRoute(formatRoute('explore', { q, range: undefined }));
    expect([route.view, route.params.get('q'), route.params.has('range')]).toEqual(['explore', q, false]);
  });
  it('starts at home', () => expect(parseRoute('').view).toBe('home'));
});

describe('time', () => {
  const check = (search: string, expected: { from: number; to: number; name?: string }) =>
    expect(windowOf(new URLSearchParams(search), 1_000_000_000)).toEqual(expected);
  it('is a length that ends now, or from one instant to another', () => {
    check('range=1h', { from: 996_400_000, to: 1_000_000_000, name: '1h' });
    check('range=90m', { from: 994_600_000, to: 1_000_000_000, name: '90m' });
    check('range=nonsense', { from: 999_100_000, to: 1_000_000_000, name: '15m' });
    check('from=5&to=9', { from: 5, to: 9 });
    check('from=9&to=5', { from: 999_100_000, to: 1_000_000_000, name: '15m' });
  });
  it('reads lengths', () => expect([parseLength('2d'), parseLength('0m'), parseLength('x')]).toEqual([172_800, undefined, undefined]));
  it('asks for what the pixels fit, aligned', () => {
    for (const name of ['5m', '24h', '30d']) {
      const range = rangeOf(windowOf(new URLSearchParams({ range: name }), 1_700_000_001_000), 900);
      expect([range.end % range.step, range.start % range.step]).toEqual([0, 0]);
      expect((range.end - range.start) / range.step).toBeLessThanOrEqual(302);
    }
  });
});
