import { describe, expect, it } from 'vitest';
import { entryText } from './history';
import { matchersOf, parseLabels, parseMatchers, writeMatchers } from './matchers';
import { pathOf } from './routing';
import { silenceOf } from './silences';
import { comparisonOf, stretches } from './why';

describe('matchers', () => {
  const check = (text: string, expected: string | { at: number }) => {
    const found = parseMatchers(text);
    expect(Array.isArray(found) ? writeMatchers(found) : found, text).toEqual(expected);
  };
  it('are read as people write them', () => {
    check('a="b", c!="d",e=~"f.*" , g!~"h"', 'a="b", c!="d", e=~"f.*", g!~"h"');
    check('{a="x, y}"}', 'a="x, y}"');
    check('a=b', 'a="b"');
    check('"utf8 näme"="v"', 'utf8 näme="v"');
    check('', '');
    check('a="b" c', { at: 0 });
    check('a="b", c', { at: 6 });
  });
  it('take exactly an alert’s labels, and give them back', () => {
    const labels = { alertname: 'Down "x"', job: 'y' };
    expect(parseLabels(writeMatchers(matchersOf(labels)))).toEqual(labels);
    expect(parseLabels('a=~"b"')).toBeUndefined();
  });
});

describe('routing', () => {
  it('names routes as the server does', () => {
    const root = pathOf({ receiver: 'all' });
    expect([root, pathOf({ receiver: 'team', matchers: ['severity="page"', 'job=~"a.*"'] }, root)]).toEqual(['{}', '{}/{severity="page",job=~"a.*"}']);
  });
});

describe('history', () => {
  const check = (entry: object, expected: string) => expect(entryText({ id: '1', at: '', ...entry } as Parameters<typeof entryText>[0])).toBe(expected);
  it('says what happened in a line', () => {
    check({ kind: 'alert_firing', annotations: { summary: 'down' } }, 'down');
    check({ kind: 'notified', receiver: 'team', integration: 'webhook[0]', firing: ['a', 'b'], resolved: ['c'] }, 'team by webhook[0]: 2 firing, 1 ended');
    check({ kind: 'notification_failed', receiver: 'team', integration: 'email[0]', firing: ['a'], error: 'no route' }, 'team by email[0]: 1 firing; no route');
    check({ kind: 'acknowledged', owner: 'ann', note: 'on it' }, 'ann: on it');
    check({ kind: 'silence_created', silence: { createdBy: 'ann', comment: 'work', matchers: matchersOf({ a: 'b' }) } }, 'ann: work {a="b"}');
  });
});

describe('silence', () => {
  const draft = { text: 'a="b"', hours: 2, author: 'me', comment: 'why' };
  it('begins now', () => {
    expect(silenceOf(draft, 0)).toMatchObject({ startsAt: '1970-01-01T00:00:00.000Z', endsAt: '1970-01-01T02:00:00.000Z', createdBy: 'me' });
    expect(silenceOf({ ...draft, text: '' }, 0)).toBeUndefined();
    expect(silenceOf({ ...draft, text: 'a' }, 0)).toBeUndefined();
  });
  it('recurs', () => {
    const silence = silenceOf({ ...draft, recurring: { days: ['saturday'], from: '22:00', to: '00:00' } }, 0);
    expect(silence?.timeIntervals?.[0]).toMatchObject({ weekdays: ['saturday'], times: [{ start_time: '22:00', end_time: '24:00' }] });
  });
});

describe('why', () => {
  const check = (text: string, expected: [string, string, number] | undefined) => {
    const found = comparisonOf(text);
    expect(found && [found.left, found.operator, found.threshold], text).toEqual(expected);
  };
  it('takes the outermost comparison with a number apart', () => {
    check('node_load1 > 2', ['node_load1', '>', 2]);
    check('sum(a > 1) by (b) >= 0.5e1', ['sum(a > 1) by (b)', '>=', 5]);
    check('a{b=">1"} != bool -1', ['a{b=">1"}', '!=', -1]);
    check('a > b', undefined);
    check('a > 1 and b > 2', undefined);
    check('up', undefined);
  });
  it('joins the instants of a state', () => {
    const series = { labels: { alertstate: 'firing' }, points: [[0, 1], [15, 1], [60, 1]] as [number, number][] };
    expect(stretches(series, 15)).toEqual([{ from: 0, to: 30, state: 'firing' }, { from: 60, to: 75, state: 'firing' }]);
  });
});
