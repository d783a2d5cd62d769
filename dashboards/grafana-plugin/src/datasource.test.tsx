import { type DataFrame, type DataQueryRequest, type DataSourceInstanceSettings, type ScopedVars, SupplementaryQueryType, dateTime } from '@grafana/data';
import { setBackendSrv, setTemplateSrv } from '@grafana/runtime';
import { fireEvent, render, screen, waitFor } from '@testing-library/react';
import { useState } from 'react';
import { lastValueFrom, of, throwError, toArray } from 'rxjs';
import { QueryEditor } from './components/QueryEditor';
import { VariableEditor } from './components/VariableEditor';
import { BinnacleDatasource } from './datasource';
import type { BinnacleOptions, BinnacleQuery } from './types';
import { parseVariable } from './variables';

type Fetched = { url: string; method: string; data?: string; params?: Record<string, string> };
const asked: Fetched[] = [];
let answers: Record<string, unknown> = {};

beforeEach(() => {
  asked.length = 0;
  answers = {};
  setBackendSrv({
    fetch: (request: Fetched) => {
      asked.push(request);
      const found = Object.entries(answers).find(([path]) => request.url.endsWith(path));
      return found ? of({ data: found[1] }) : throwError(() => ({ data: { error: `nothing at ${request.url}` } }));
    },
  } as never);
  setTemplateSrv({
    replace: (text: string, scoped: ScopedVars = {}, write?: (value: unknown, variable: object) => string) =>
      text.replace(/\$(\w+)/g, (all, name: string) => (scoped[name] ? (write ? write(scoped[name].value, {}) : String(scoped[name].value)) : all)),
  } as never);
});

const datasource = () => new BinnacleDatasource({ id: 1, uid: 'u', type: 'binnacle-binnacle-datasource', name: 'Binnacle', url: '/proxy', jsonData: { maxLines: 50 } } as unknown as DataSourceInstanceSettings<BinnacleOptions>);

const request = (...targets: BinnacleQuery[]) =>
  ({ targets, intervalMs: 15_000, range: { from: dateTime(1_000_000), to: dateTime(1_600_000) }, scopedVars: { job: { text: 'web', value: 'web' } } }) as unknown as DataQueryRequest<BinnacleQuery>;

const run = (...targets: BinnacleQuery[]) => lastValueFrom(datasource().query(request(...targets)).pipe(toArray()));

describe('query', () => {
  it('fills in variables and asks as a form', async () => {
    answers['api/v1/query_range'] = { data: { resultType: 'matrix', result: [{ metric: { a: 'b' }, values: [[1, '2']] }] }, warnings: ['cut'] };
    const [answer] = await run({ refId: 'A', kind: 'metrics', expr: 'rate(x{job="$job"}[$__rate_interval])' });
    expect(asked[0]).toMatchObject({ url: '/proxy/api/v1/query_range', method: 'POST' });
    expect(new URLSearchParams(asked[0]!.data).get('query')).toBe('rate(x{job="web"}[60s])');
    expect((answer!.data[0] as DataFrame).meta!.notices).toEqual([{ severity: 'warning', text: 'cut' }]);
  });
  it('answers metrics and lines side by side, each with its own failure', async () => {
    answers['loki/api/v1/query_range'] = { data: { resultType: 'streams', result: [{ stream: { a: 'b' }, values: [['1700000000000000001', 'text']] }] } };
    const found = await run({ refId: 'A', kind: 'logs', expr: '{a="b"}' }, { refId: 'B', kind: 'metrics', expr: 'up' }, { refId: 'C', kind: 'metrics', expr: ' ' });
    expect(found.length).toBe(2);
    expect(found.find(({ key }) => key === 'A')!.data[0].meta.preferredVisualisationType).toBe('logs');
    expect(new URLSearchParams(asked[0]!.data).get('limit')).toBe('50');
    expect(found.find(({ key }) => key === 'B')!.errors![0]!.message).toBe('nothing at /proxy/api/v1/query_range');
  });
});

describe('Explore', () => {
  const logs: BinnacleQuery = { refId: 'A', kind: 'logs', expr: '{a="b"}' };
  it('asks beside lines for their volume, beside counts for a sample', () => {
    const ds = datasource();
    expect(ds.getSupplementaryQuery({ type: SupplementaryQueryType.LogsVolume }, logs)).toMatchObject({ supplementary: 'volume' });
    expect(ds.getSupplementaryQuery({ type: SupplementaryQueryType.LogsSample }, logs)).toBeUndefined();
    expect(ds.getSupplementaryQuery({ type: SupplementaryQueryType.LogsSample }, { ...logs, expr: 'rate({a="b"}[1m])' })).toMatchObject({ supplementary: 'sample' });
    expect(ds.getSupplementaryQuery({ type: SupplementaryQueryType.LogsVolume }, { ...logs, kind: 'metrics' })).toBeUndefined();
  });
  it('filters by a click and takes it back', () => {
    const ds = datasource();
    const click = (query: BinnacleQuery, type: 'FILTER_FOR' | 'FILTER_OUT') => ds.toggleQueryFilter(query, { type, options: { key: 'pod', value: 'x' } });
    const on = click(logs, 'FILTER_FOR');
    expect([on.expr, ds.queryHasFilter(on, { key: 'pod', value: 'x' })]).toEqual(['{a="b", pod="x"}', true]);
    expect([click(on, 'FILTER_FOR').expr, click(on, 'FILTER_OUT').expr]).toEqual(['{a="b"}', '{a="b", pod!="x"}']);
    expect(click({ refId: 'A', kind: 'metrics', expr: 'sum(rate(up[5m]))' }, 'FILTER_FOR').expr).toBe('sum(rate(up{pod="x"}[5m]))');
  });
  it('shows what is around a line, of its stream', async () => {
    answers['loki/api/v1/labels'] = { data: ['filename'] };
    answers['loki/api/v1/query_range'] = { data: { resultType: 'streams', result: [] } };
    await datasource().getLogRowContext({ timeEpochNs: '1700000000000000005', labels: { filename: '/a', level: 'info' }, dataFrame: { refId: 'A' } } as never);
    expect(new URLSearchParams(asked[1]!.data).get('query')).toBe('{filename="/a"}');
  });
});

describe('variables', () => {
  const check = (text: string, expected: object | undefined) => expect(parseVariable(text)).toEqual(expected);
  it('are written as users of Prometheus and Loki know them', () => {
    check('label_values(job)', { call: 'label_values', kind: 'metrics', selector: undefined, label: 'job' });
    check('label_values(up{a="b,c"}, job)', { call: 'label_values', kind: 'metrics', selector: 'up{a="b,c"}', label: 'job' });
    check('label_values({app="x"}, pod)', { call: 'label_values', kind: 'logs', selector: '{app="x"}', label: 'pod' });
    check('logs: label_names()', { call: 'label_names', kind: 'logs' });
    check('metrics(node_.*)', { call: 'metrics', pattern: 'node_.*' });
    check('query_result(topk(3, up))', { call: 'query_result', expr: 'topk(3, up)' });
    check('nonsense', undefined);
  });
  it('find values', async () => {
    answers['api/v1/label/job/values'] = { data: ['a', 'b'] };
    expect(await datasource().metricFindQuery('label_values(up, job)')).toEqual([{ text: 'a' }, { text: 'b' }]);
    expect(asked[0]!.params).toEqual({ 'match[]': 'up' });
  });
  it('serve ad-hoc filters', async () => {
    answers['api/v1/labels'] = { data: ['__name__', 'job', 'pod'] };
    expect(await datasource().getTagKeys()).toEqual([{ text: 'job' }, { text: 'pod' }]);
  });
});

describe('editors', () => {
  function Host({ first }: { first: BinnacleQuery }) {
    const [query, setQuery] = useState(first);
    return (
      <>
        <QueryEditor query={query} datasource={datasource()} onChange={setQuery} onRunQuery={() => {}} />
        <output>{JSON.stringify(query)}</output>
      </>
    );
  }
  const shown = () => JSON.parse(screen.getByRole('status').textContent!) as BinnacleQuery;
  it('write code in the language of the kind', async () => {
    render(<Host first={{ refId: 'A', kind: 'metrics', expr: 'sum(rate(up[1m]))' }} />);
    await waitFor(() => expect(screen.getByTestId('code').textContent).toContain('sum(rate(up[1m]))'));
    fireEvent.click(screen.getByLabelText('Logs'));
    expect(shown()).toMatchObject({ kind: 'logs', expr: '' });
    fireEvent.click(screen.getByLabelText('Alerts'));
    fireEvent.blur(screen.getByLabelText('Alerts with'), { target: { value: 'severity="critical"' } });
    expect(shown()).toMatchObject({ kind: 'alerts', expr: 'severity="critical"' });
  });
  it('build a query, and say where they cannot', async () => {
    answers['api/v1/label/__name__/values'] = { data: ['up'] };
    answers['api/v1/labels'] = { data: ['job'] };
    render(<Host first={{ refId: 'A', kind: 'metrics', expr: 'sum by (job) (rate(up{job="x"}[1m]))', mode: 'builder' }} />);
    await waitFor(() => expect(screen.getByLabelText('Metric')).toBeTruthy());
    fireEvent.blur(screen.getByLabelText('By'), { target: { value: 'job, pod' } });
    expect(shown().expr).toBe('sum by (job, pod) (rate(up{job="x"}[1m]))');
    fireEvent.click(screen.getByLabelText('Remove the label'));
    expect(shown().expr).toBe('sum by (job, pod) (rate(up[1m]))');
    render(<Host first={{ refId: 'A', kind: 'metrics', expr: 'a / b', mode: 'builder' }} />);
    expect(screen.getByText(/go on in code/)).toBeTruthy();
  });
  it('say what a variable may be', () => {
    const onChange = jest.fn();
    render(<VariableEditor query={{ refId: 'v', kind: 'metrics', expr: '' }} datasource={datasource()} onChange={onChange} onRunQuery={() => {}} />);
    const field = screen.getByLabelText('Variable query');
    fireEvent.change(field, { target: { value: 'label_values(job)' } });
    fireEvent.blur(field);
    expect(onChange).toHaveBeenCalledWith(expect.objectContaining({ expr: 'label_values(job)' }));
  });
});
