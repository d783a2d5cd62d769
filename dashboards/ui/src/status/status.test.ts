import { describe, expect, it } from 'vitest';
import type { Work } from '../api/binnacle';
import { behind } from '../home/view';
import { progressText } from './work';

describe('work', () => {
  const check = (state: Work['state'], done: number, total: number, unit: string, expected: string) =>
    expect(progressText({ state, done, total, unit })).toBe(expected);
  it('says how far it is while it runs', () => {
    check('running', 3, 12, 'merges', '3 of 12 merges');
    check('running', 1234, 0, 'merges', '1,234 merges');
    check('running', 0, 0, '', '');
    check('done', 12, 12, 'merges', '');
  });
});

describe('what is behind', () => {
  const check = (records: number | null, expected: string[]) => {
    const stores = [{ part: 'indexer', topic: 'logs', applied: 1, behind: records }];
    const status = { version: '', node: '', uptime_seconds: 0, bus: [], files: [], stores };
    expect(behind({ status, targetsDown: 0, dropped: 0 }).map(({ text }) => text)).toEqual(expected);
  };
  it('is a store that does not keep up, not one of the last moment', () => {
    check(3, []);
    check(1500, ['indexer is 1,500 records behind the bus']);
    check(null, ['the bus does not say how far indexer is behind']);
  });
});
