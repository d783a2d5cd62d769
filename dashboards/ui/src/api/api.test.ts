import { describe, expect, it, vi } from 'vitest';
import { ApiError, encode, errorText, ifThere, tenantHeaders } from './http';
import { after, readLines } from './loki';
import { readResult } from './prometheus';

describe('answers', () => {
  it('says the error in the server’s words', () => {
    const check = (body: string, expected: string) => expect(errorText(body, '500 Oops')).toBe(expected);
    check('{"status":"error","error":"no such thing"}', 'no such thing');
    check('"bad matcher"', 'bad matcher');
    check('parse error at line 1\n', 'parse error at line 1');
    check('', '500 Oops');
  });
  it('reads vectors, scalars, histograms and notes', () => {
    const read = (resultType: string, result: unknown, more = {}) => readResult({ data: { resultType, result }, ...more } as never);
    expect(read('vector', [{ metric: { a: 'b' }, value: [1, 'NaN'] }]).series).toEqual([{ labels: { a: 'b' }, points: [[1, NaN]] }]);
    expect(read('scalar', [1, '2']).series).toEqual([{ labels: {}, points: [[1, 2]] }]);
    expect(read('matrix', [], { warnings: ['w'], infos: ['i'] }).notes).toEqual(['w', 'i']);
    const histogram = { count: '3', sum: '4', buckets: [[0, '1', '2', '3']] };
    expect(read('vector', [{ metric: {}, histogram: [1, histogram] }]).series[0]).toEqual({ labels: {}, points: [[1, 3]], histograms: [[1, [[1, 2, 3]]]] });
  });
  it('puts lines of all streams in the order of their nanoseconds', () => {
    const lines = readLines([
      { stream: { a: '1' }, values: [['1700000000000000002', 'second']] },
      { stream: { a: '2' }, values: [['1700000000000000003', 'third'], ['1700000000000000001', 'first']] },
    ]);
    expect(lines.map(({ text }) => text)).toEqual(['first', 'second', 'third']);
    expect(lines[0]!.at).toBe(1_700_000_000_000);
    expect(after('1700000000000000009')).toBe('1700000000000000010');
  });
  it('do without a part that is not there, not without one that fails', async () => {
    const failing = (status: number) => ifThere(Promise.reject(new ApiError('x', status)), 'none');
    expect(await failing(404)).toBe('none');
    await expect(failing(500)).rejects.toThrow('x');
  });
  it('name the tenant whose data the page shows', () => {
    vi.stubGlobal('location', { hash: '#/explore?tenant=team-a' });
    expect(tenantHeaders()).toEqual({ 'X-Scope-OrgID': 'team-a' });
    vi.stubGlobal('location', { hash: '#/explore' });
    expect(tenantHeaders()).toEqual({});
    vi.unstubAllGlobals();
  });
  it('repeats parameters that are lists and leaves out what is undefined', () => {
    expect(encode({ a: ['1', '2'], b: undefined, c: 3 }).toString()).toBe('a=1&a=2&c=3');
  });
});
