// The datasource: metrics, lines and alerts of one Binnacle.

import {
  type AdHocVariableFilter, type AbstractQuery, type AnnotationEvent, type AnnotationQuery, type DataFrame, type DataLink, type DataQueryRequest, type DataQueryResponse,
  DataSourceApi, type DataSourceGetTagKeysOptions, type DataSourceGetTagValuesOptions, type DataSourceInstanceSettings, type DataSourceWithLogsContextSupport,
  type DataSourceWithQueryExportSupport, type DataSourceWithQueryImportSupport, type DataSourceWithSupplementaryQueriesSupport,
  type DataSourceWithToggleableQueryFiltersSupport, type Labels, LoadingState, type LogRowContextOptions, type LogRowModel, type MetricFindValue, type QueryFilterOptions,
  type ScopedVars, type SupplementaryQueryOptions, SupplementaryQueryType, type TestDataSourceResponse, type ToggleFilterAction,
} from '@grafana/data';
import { getBackendSrv, getTemplateSrv } from '@grafana/runtime';
import { type Observable, from, lastValueFrom, merge, of } from 'rxjs';
import { givesLines, logsFor, metricsFor, toggleEverywhere, toggleField } from '../../ui/src/explore/language';
import { annotationsOf } from './annotations';
import { contextRequest } from './context';
import { messageOf } from './errors';
import { type RawSeries, type RawStream, heatmapFrames, linesFrame, seriesFrames, tableFrame, volumeFrames } from './frames';
import { health } from './health';
import { fromAbstract, toAbstract } from './import';
import { type Asked, builtIn, linesOf, queryHas, requestOf, stepOf, withFilters, writeVariable } from './requests';
import { tail } from './streaming';
import type { BinnacleOptions, BinnacleQuery } from './types';
import { VariableSupport, findValues } from './variables';

interface Answer {
  data: { resultType: string; result: unknown };
  warnings?: string[];
}

export class BinnacleDatasource
  extends DataSourceApi<BinnacleQuery, BinnacleOptions>
  implements
    DataSourceWithLogsContextSupport<BinnacleQuery>, DataSourceWithSupplementaryQueriesSupport<BinnacleQuery>, DataSourceWithToggleableQueryFiltersSupport<BinnacleQuery>,
    DataSourceWithQueryImportSupport<BinnacleQuery>, DataSourceWithQueryExportSupport<BinnacleQuery>
{
  readonly url: string;
  readonly maxLines?: number;
  /** Labels that streams have; what else a line carries is a field. */
  private lineLabels?: Promise<string[]>;

  constructor(settings: DataSourceInstanceSettings<BinnacleOptions>) {
    super(settings);
    this.url = settings.url ?? '';
    this.maxLines = settings.jsonData.maxLines;
    this.variables = new VariableSupport(this);
    this.annotations = {
      prepareQuery: (annotation: AnnotationQuery<BinnacleQuery>) => ({ ...annotation.target, refId: 'Anno', kind: 'alerts', expr: annotation.target?.expr ?? '' }),
      processEvents: (_: AnnotationQuery<BinnacleQuery>, frames: DataFrame[]): Observable<AnnotationEvent[]> => of(annotationsOf(frames)),
    };
  }

  /** A GET below the datasource's address, through Grafana's proxy. */
  async get<T>(path: string, params: Record<string, string | undefined> = {}): Promise<T> {
    const response = await lastValueFrom(getBackendSrv().fetch<T>({ url: `${this.url}/${path}`, params, method: 'GET', showErrorAlert: false }));
    return response.data;
  }

  /** Queries go as a form: expressions may be longer than an address. */
  private async ask(asked: Asked): Promise<Answer> {
    const data = new URLSearchParams(asked.params).toString();
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const response = await lastValueFrom(getBackendSrv().fetch<Answer>({ url: `${this.url}/${asked.path}`, method: 'POST', data, headers, showErrorAlert: false }));
    return response.data;
  }

  override query(request: DataQueryRequest<BinnacleQuery>): Observable<DataQueryResponse> {
    const targets = request.targets.filter((query) => this.filterQuery(query));
    if (targets.length === 0) return of({ data: [] });
    const filled = targets.map((query) => this.fillIn(query, request));
    if (request.liveStreaming) {
      const lines = filled.filter(({ kind, expr }) => kind === 'logs' && givesLines(expr));
      return merge(...lines.map((query) => tail(query, this.url, linesOf(query, this.maxLines))));
    }
    return merge(...filled.map((query) => from(this.one(query, request))));
  }

  private async one(query: BinnacleQuery, request: DataQueryRequest<BinnacleQuery>): Promise<DataQueryResponse> {
    const [fromMs, toMs] = [request.range.from.valueOf(), request.range.to.valueOf()];
    const asked = requestOf(query, fromMs, toMs, stepOf(fromMs, toMs, request.intervalMs), this.maxLines);
    try {
      const answer = await this.ask(asked);
      return { data: this.framesOf(query, asked, answer, { from: fromMs, to: toMs }), state: LoadingState.Done, key: query.refId };
    } catch (failure) {
      return { data: [], state: LoadingState.Error, key: query.refId, errors: [{ refId: query.refId, message: messageOf(failure) }] };
    }
  }

  private framesOf(query: BinnacleQuery, asked: Asked, { data, warnings }: Answer, range: { from: number; to: number }): DataFrame[] {
    if (asked.gives === 'lines') return [linesFrame(query, data.result as RawStream[], linesOf(query, this.maxLines), [this.metricsLink()])];
    const result: RawSeries[] = data.resultType === 'scalar' ? [{ metric: {}, value: data.result as [number, string] }] : (data.result as RawSeries[]);
    if (asked.gives === 'volume') return volumeFrames(query, result, range, this.name);
    const frames = query.format === 'table' ? [tableFrame(query, result)] : query.format === 'heatmap' ? heatmapFrames(query, result) : seriesFrames(query, result, (labels) => this.linesLinks(labels));
    if (frames[0] && warnings?.length) frames[0].meta = { ...frames[0].meta, notices: warnings.map((text) => ({ severity: 'warning', text })) };
    return frames;
  }

  /** From a series to the lines of what it measures. */
  private linesLinks(labels: Labels): DataLink[] {
    const expr = logsFor(labels, Object.keys(labels).filter((name) => ['cluster', 'namespace', 'pod', 'container', 'node', 'service', 'app'].includes(name)));
    return expr ? [this.link('Lines', { refId: 'A', kind: 'logs', expr })] : [];
  }

  /** From a line to the metrics of its origin. */
  private metricsLink(): DataLink {
    return this.link('Metrics of its pod', { refId: 'A', kind: 'metrics', expr: metricsFor({ namespace: '${__data.fields.labels.namespace}', pod: '${__data.fields.labels.pod}' }) });
  }

  private link(title: string, query: BinnacleQuery): DataLink {
    return { title, url: '', internal: { datasourceUid: this.uid, datasourceName: this.name, query } };
  }

  private fillIn(query: BinnacleQuery, request: DataQueryRequest<BinnacleQuery>): BinnacleQuery {
    const [fromMs, toMs] = [request.range.from.valueOf(), request.range.to.valueOf()];
    const scoped = { ...request.scopedVars, ...builtIn(fromMs, toMs, stepOf(fromMs, toMs, request.intervalMs)) };
    return this.applyTemplateVariables(query, scoped, request.filters);
  }

  applyTemplateVariables(query: BinnacleQuery, scopedVars: ScopedVars, filters?: AdHocVariableFilter[]): BinnacleQuery {
    const expr = getTemplateSrv().replace(query.expr, scopedVars, writeVariable);
    const legend = query.legend && getTemplateSrv().replace(query.legend, scopedVars);
    return { ...query, legend, expr: query.kind === 'alerts' ? expr : withFilters({ ...query, expr }, filters) };
  }

  override interpolateVariablesInQueries(queries: BinnacleQuery[], scopedVars: ScopedVars, filters?: AdHocVariableFilter[]): BinnacleQuery[] {
    return queries.map((query) => ({ ...this.applyTemplateVariables(query, scopedVars, filters), datasource: this.getRef() }));
  }

  override filterQuery = (query: BinnacleQuery): boolean => !query.hide && (query.kind === 'alerts' || Boolean(query.expr?.trim()));
  override getDefaultQuery = (): Partial<BinnacleQuery> => ({ kind: 'metrics', expr: '', format: 'series', mode: 'code' });
  override getQueryDisplayText = (query: BinnacleQuery): string => (query.kind === 'alerts' ? `alerts {${query.expr}}` : query.expr);

  override testDatasource = (): Promise<TestDataSourceResponse> => health((path) => this.get(path));

  override metricFindQuery = (query: string): Promise<MetricFindValue[]> => findValues(query, this);

  labelNames = async (kind: 'metrics' | 'logs' = 'metrics'): Promise<string[]> => {
    const load = async (path: string) => (await this.get<{ data?: string[] }>(path)).data ?? [];
    if (kind === 'metrics') return load('api/v1/labels');
    this.lineLabels ??= load('loki/api/v1/labels');
    return this.lineLabels;
  };

  labelValues = async (name: string, kind: 'metrics' | 'logs' = 'metrics', selector?: string): Promise<string[]> => {
    const path = `${kind === 'metrics' ? 'api/v1' : 'loki/api/v1'}/label/${encodeURIComponent(name)}/values`;
    const params = selector ? { [kind === 'metrics' ? 'match[]' : 'query']: selector } : {};
    return (await this.get<{ data?: string[] }>(path, params)).data ?? [];
  };

  override async getTagKeys(options?: DataSourceGetTagKeysOptions<BinnacleQuery>): Promise<MetricFindValue[]> {
    const kinds = new Set(options?.queries?.map(({ kind }) => (kind === 'logs' ? 'logs' : 'metrics')) ?? []);
    const names = await Promise.all((['metrics', 'logs'] as const).filter((kind) => kinds.size === 0 || kinds.has(kind)).map((kind) => this.labelNames(kind)));
    return [...new Set(names.flat())].filter((name) => !name.startsWith('__')).sort().map((text) => ({ text }));
  }

  override async getTagValues(options: DataSourceGetTagValuesOptions<BinnacleQuery>): Promise<MetricFindValue[]> {
    const values = await Promise.all((['metrics', 'logs'] as const).map((kind) => this.labelValues(options.key, kind)));
    return [...new Set(values.flat())].sort().map((text) => ({ text }));
  }

  // A click on a label or field in Explore.

  toggleQueryFilter(query: BinnacleQuery, { type, options, frame }: ToggleFilterAction): BinnacleQuery {
    const { key, value } = options as { key: string; value: string };
    const isEqual = type === 'FILTER_FOR';
    if (query.kind !== 'logs') return { ...query, expr: toggleEverywhere(query.expr, key, value, isEqual) };
    return { ...query, expr: toggleField(query.expr, key, value, isEqual, parserFor(key, frame)) };
  }

  queryHasFilter(query: BinnacleQuery, filter: QueryFilterOptions): boolean {
    return queryHas(query.expr, filter.key ?? '', filter.value ?? '');
  }

  // Beside a query of lines: how many there are; beside a count of lines: some of them.

  getSupportedSupplementaryQueryTypes = (): SupplementaryQueryType[] => [SupplementaryQueryType.LogsVolume, SupplementaryQueryType.LogsSample];

  getSupplementaryQuery({ type }: SupplementaryQueryOptions, query: BinnacleQuery): BinnacleQuery | undefined {
    if (query.kind !== 'logs' || query.hide || !query.expr) return undefined;
    const isLines = givesLines(query.expr);
    if (type === SupplementaryQueryType.LogsVolume && isLines) return { ...query, refId: `log-volume-${query.refId}`, supplementary: 'volume' };
    if (type === SupplementaryQueryType.LogsSample && !isLines) return { ...query, refId: `log-sample-${query.refId}`, supplementary: 'sample' };
    return undefined;
  }

  getSupplementaryRequest(type: SupplementaryQueryType, request: DataQueryRequest<BinnacleQuery>): DataQueryRequest<BinnacleQuery> | undefined {
    const targets = request.targets.flatMap((query) => this.getSupplementaryQuery({ type } as SupplementaryQueryOptions, query) ?? []);
    // Bars are wider than points.
    return targets.length ? { ...request, targets, intervalMs: request.intervalMs * 8, liveStreaming: false } : undefined;
  }

  async getLogRowContext(row: LogRowModel, options?: LogRowContextOptions): Promise<DataQueryResponse> {
    const { query, params } = contextRequest(row, await this.labelNames('logs'), options);
    const answer = await this.ask({ path: 'loki/api/v1/query_range', params, gives: 'lines' });
    return { data: [linesFrame(query, answer.data.result as RawStream[], Number(params.limit))] };
  }

  async getLogRowContextQuery(row: LogRowModel): Promise<BinnacleQuery> {
    return contextRequest(row, await this.labelNames('logs')).query;
  }

  // Queries of the Prometheus and Loki datasources, and for them.

  importFromAbstractQueries = async (queries: AbstractQuery[]): Promise<BinnacleQuery[]> => queries.map(fromAbstract);
  exportToAbstractQueries = async (queries: BinnacleQuery[]): Promise<AbstractQuery[]> => queries.map(toAbstract);

  /** From a datasource whose expressions are ours: taken as they are. */
  override async importQueries(queries: Array<{ refId: string; expr?: string; legendFormat?: string; format?: string; instant?: boolean }>, origin: { type: string }): Promise<BinnacleQuery[]> {
    const kind = origin.type === 'loki' ? 'logs' : 'metrics';
    return queries.map(({ refId, expr = '', legendFormat, format, instant }) => ({
      refId, kind, expr, legend: legendFormat && legendFormat !== '__auto' ? legendFormat : undefined, format: format === 'table' || format === 'heatmap' ? format : 'series', instant,
    }));
  }
}

/** What finds a field in a frame's lines; nothing for a label of their streams. */
function parserFor(key: string, frame?: DataFrame): 'json' | 'logfmt' | undefined {
  const labels = frame?.fields.find(({ name }) => name === 'labels')?.values as Labels[] | undefined;
  if (!labels || labels.some((one) => key in one)) return undefined;
  const body = frame?.fields.find(({ name }) => name === 'body')?.values[0] as string | undefined;
  return body?.trimStart().startsWith('{') ? 'json' : 'logfmt';
}
