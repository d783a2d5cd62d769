import { AbstractLabelOperator, type DataFrame, type Field, type LogRowModel, LogRowContextQueryDirection } from '@grafana/data';
import { annotationsOf } from './annotations';
import { EMPTY, read, write } from './builder';
import { contextRequest } from './context';
import { type RawStream, heatmapFrames, linesFrame, seriesFrames, seriesName, tableFrame, volumeFrames } from './frames';
import { health } from './health';
import { fromAbstract, toAbstract } from './import';
import { builtIn, queryHas, requestOf, stepOf, withFilters, writeVariable } from './requests';
import { tailUrl } from './streaming';
import type { BinnacleQuery } from './types';

const query = (changes: Partial<BinnacleQuery>): BinnacleQuery => ({ refId: 'A', kind: 'metrics', expr: 'up', ...changes });
const values = (frame: DataFrame | undefined, name: string): unknown[] => frame!.fields.find((one: Field) => one.name === name)!.values;

describe('requests', () => {
  const check = (changes: Partial<BinnacleQuery>, expected: object) => expect(requestOf(query(changes), 1_000_000, 1_600_000, 15)).toMatchObject(expected);
  it('go where the query belongs', () => {
    check({}, { path: 'api/v1/query_range', params: { query: 'up', start: '990', end: '1605', step: '15' }, gives: 'series' });
    check({ instant: true }, { path: 'api/v1/query', params: { time: '1600' } });
    check({ kind: 'logs', expr: '{a="b"}' }, { path: 'loki/api/v1/query_range', params: { start: '1000000000000', end: '1600000000000', limit: '1000', direction: 'backward' }, gives: 'lines' });
    check({ kind: 'logs', expr: '{a="b"}', maxLines: 99_999 }, { params: { limit: '5000' } });
    check({ kind: 'logs', expr: 'rate({a="b"}[1m])' }, { path: 'loki/api/v1/query_range', gives: 'series' });
    check({ kind: 'logs', expr: 'rate({a="b"} |= "x" [1m])', supplementary: 'sample' }, { params: { query: '{a="b"} |= "x"' }, gives: 'lines' });
    check({ kind: 'logs', expr: '{a="b"}', supplementary: 'volume' }, { params: { query: 'sum by (level) (count_over_time({a="b"} [15s]))' }, gives: 'volume' });
    check({ kind: 'alerts', expr: 'job="x"' }, { params: { query: 'ALERTS{job="x", alertstate="firing"}' } });
    check({ kind: 'alerts', expr: '' }, { params: { query: 'ALERTS{alertstate="firing"}' } });
  });
  it('have steps that the server takes', () => {
    expect(stepOf(0, 60_000, 200)).toBe(1);
    expect(stepOf(0, 11_000 * 60_000, 1000)).toBe(60);
    expect(builtIn(0, 3_600_000, 15)).toMatchObject({ __interval: { value: '15s' }, __rate_interval: { value: '60s' }, __range: { value: '3600s' } });
  });
  it('write variables as text, or as alternatives of a regular expression', () => {
    expect(writeVariable('a"b', {})).toBe('a\\"b');
    expect(writeVariable('a.b', { multi: true })).toBe('a\\\\.b');
    expect(writeVariable(['a', 'b.c'], { multi: true })).toBe('(a|b\\\\.c)');
  });
  it('narrow with the dashboard’s filters', () => {
    const filters = [{ key: 'job', operator: '=', value: 'x' }, { key: 'pod', operator: '=~', value: 'w.*' }];
    expect(withFilters(query({ expr: 'sum by (job) (rate(a{job="x"}[5m])) / b' }), filters)).toBe('sum by (job) (rate(a{job="x", pod=~"w.*"}[5m])) / b{job="x", pod=~"w.*"}');
    expect(withFilters(query({ kind: 'logs', expr: '{app="y"} |= "z"' }), filters)).toBe('{app="y", job="x", pod=~"w.*"} |= "z"');
    expect([queryHas('up{job="x"}', 'job', 'x'), queryHas('up{ajob="x"}', 'job', 'x'), queryHas('up{job!="x"}', 'job', 'x', false)]).toEqual([true, false, true]);
  });
  it('tail over a WebSocket below the datasource’s address', () => {
    expect(tailUrl('/api/datasources/proxy/uid/x', '{a="b"}', 'https://grafana.example/explore')).toBe('wss://grafana.example/api/datasources/proxy/uid/x/loki/api/v1/tail?query=%7Ba%3D%22b%22%7D');
  });
});

describe('frames', () => {
  it('of series have names, values and their labels', () => {
    expect([seriesName({ __name__: 'up', a: 'b' }), seriesName({ a: 'b' }, '{{ a }}-{{c}}'), seriesName({})]).toEqual(['up{a="b"}', 'b-', '{}']);
    const [frame] = seriesFrames(query({}), [{ metric: { a: 'b' }, values: [[1, '2'], [2, '+Inf'], [3, 'NaN']] }]);
    expect(values(frame, 'Time')).toEqual([1000, 2000, 3000]);
    expect(values(frame, 'Value')).toEqual([2, Infinity, NaN]);
  });
  it('of tables have a column for every label', () => {
    const frame = tableFrame(query({}), [{ metric: { a: '1' }, value: [1, '5'] }, { metric: { b: '2' }, value: [1, '6'] }]);
    expect([values(frame, 'a'), values(frame, 'b'), values(frame, 'Value')]).toEqual([['1', ''], ['', '2'], [5, 6]]);
  });
  it('of heatmaps hold what lies between the bounds', () => {
    const frames = heatmapFrames(query({}), [{ metric: { le: '+Inf' }, values: [[1, '9']] }, { metric: { le: '0.5' }, values: [[1, '4']] }]);
    expect(frames.map((frame) => [frame.name, values(frame, 'Value')])).toEqual([['0.5', [4]], ['+Inf', [5]]]);
  });
  it('of lines have the newest first, and ids that stay', () => {
    const streams: RawStream[] = [{ stream: { level: 'info' }, values: [['1700000000000000002', 'b'], ['1700000000000000001', 'a']] }, { stream: {}, values: [['1700000000000000003', 'c'], ['1700000000000000003', 'c']] }];
    const frame = linesFrame(query({ kind: 'logs', expr: '{a="b"} |= "x"' }), streams, 10);
    expect(values(frame, 'body')).toEqual(['c', 'c', 'b', 'a']);
    expect(values(frame, 'severity')).toEqual(['', '', 'info', 'info']);
    expect(frame.fields[0]!.nanos).toEqual([3, 3, 2, 1]);
    expect(new Set(values(frame, 'id')).size).toBe(4);
    expect(values(linesFrame(query({ kind: 'logs' }), streams, 10), 'id')).toEqual(values(frame, 'id'));
    expect(frame.meta).toMatchObject({ preferredVisualisationType: 'logs', custom: { searchWords: ['x'], limit: 10 } });
  });
  it('of volumes carry the level’s colour', () => {
    const [frame] = volumeFrames(query({ kind: 'logs' }), [{ metric: { level: 'error' }, values: [[1, '2']] }], { from: 0, to: 1 }, 'Binnacle');
    expect(frame!.fields[1]!.config).toMatchObject({ displayNameFromDS: 'error', color: { fixedColor: 'red' } });
    expect(frame!.meta!.custom).toMatchObject({ logsVolumeType: 'FullRange', absoluteRange: { from: 0, to: 1 } });
  });
  it('of alerts become regions', () => {
    const [frame] = seriesFrames(query({ kind: 'alerts' }), [{ metric: { __name__: 'ALERTS', alertname: 'Down', alertstate: 'firing', job: 'x' }, values: [[1, '1'], [2, '1'], [9, '1']] }]);
    expect(annotationsOf([frame!])).toMatchObject([{ time: 1000, timeEnd: 2000, title: 'Down', tags: ['job=x'] }, { time: 9000, timeEnd: 9000 }]);
  });
});

describe('builder', () => {
  const check = (expr: string, kind: 'metrics' | 'logs') => {
    const built = read({ expr, kind });
    expect(built && write(built, kind)).toBe(expr);
  };
  it('reads what it writes', () => {
    check('up', 'metrics');
    check('up{job="x", pod=~"a.*"}', 'metrics');
    check('sum by (job, pod) (rate(a_total{job="x"}[$__rate_interval]))', 'metrics');
    check('{app="x"} |= "a \\"b\\""', 'logs');
    check('sum by (level) (count_over_time({app="x"} [5m]))', 'logs');
  });
  it('leaves alone what it could not have written', () => {
    for (const expr of ['a / b', 'rate(a[5m] offset 1h)', 'histogram_quantile(0.9, a)', 'topk(3, a)']) expect([expr, read({ expr, kind: 'metrics' })]).toEqual([expr, undefined]);
    expect(read({ expr: '{a="b"} | json', kind: 'logs' })).toBeUndefined();
    expect(read({ expr: '', kind: 'metrics' })).toBe(EMPTY);
  });
});

describe('context', () => {
  const row = { timeEpochNs: '1700000000000000005', labels: { filename: '/a', level: 'info', status: '200' }, dataFrame: { refId: 'A', length: 0, fields: [] } } as unknown as LogRowModel;
  it('is of the line’s stream, before and after', () => {
    expect(contextRequest(row, ['filename', 'level']).params).toEqual({ query: '{filename="/a"}', start: '1699913600000000005', end: '1700000000000000005', limit: '20', direction: 'backward' });
    expect(contextRequest(row, ['filename'], { direction: LogRowContextQueryDirection.Forward, limit: 5 }).params).toMatchObject({ start: '1700000000000000005', limit: '5', direction: 'forward' });
  });
});

describe('import', () => {
  it('goes both ways', () => {
    const metrics = toAbstract(query({ expr: 'rate(a_total{job="x", pod!~"y"}[5m])' }));
    expect(metrics.labelMatchers.map(({ name, operator, value }) => [name, operator, value])).toEqual([
      ['__name__', AbstractLabelOperator.Equal, 'a_total'], ['job', AbstractLabelOperator.Equal, 'x'], ['pod', AbstractLabelOperator.NotEqualRegEx, 'y'],
    ]);
    expect(fromAbstract(metrics)).toMatchObject({ kind: 'metrics', expr: 'a_total{job="x", pod!~"y"}' });
    expect(fromAbstract(toAbstract(query({ kind: 'logs', expr: '{a="b"} |= "x"' })))).toMatchObject({ kind: 'logs', expr: '{a="b"}' });
  });
});

describe('health', () => {
  const check = async (broken: string[], expected: RegExp) => {
    const found = await health(async (path) => {
      if (broken.some((part) => path.includes(part))) throw Object.assign(new Error('x'), { statusText: 'Bad Gateway', data: { error: 'no route' } });
    });
    expect(found.message).toMatch(expected);
  };
  it('names what is wrong', async () => {
    await check([], /^Metrics, logs and alerts answer/);
    await check(['loki'], /^Some parts do not answer. logs \(loki\/api\/v1\/labels\): no route$/);
    await check(['api'], /^Nothing answers at this address.*no route$/);
  });
});
