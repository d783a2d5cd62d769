// Template variables: the functions that users of Prometheus and Loki know.

import { CustomVariableSupport, type DataQueryRequest, type DataQueryResponse, type MetricFindValue } from '@grafana/data';
import { getTemplateSrv } from '@grafana/runtime';
import { type Observable, from, map } from 'rxjs';
import { VariableEditor } from './components/VariableEditor';
import type { BinnacleDatasource } from './datasource';
import { writeVariable } from './requests';
import type { BinnacleQuery } from './types';

export type VariableCall =
  | { call: 'label_names'; kind: 'metrics' | 'logs' }
  | { call: 'label_values'; kind: 'metrics' | 'logs'; selector?: string; label: string }
  | { call: 'metrics'; pattern: string }
  | { call: 'query_result'; expr: string };

/** What the text of a variable asks for; lines' labels where the selector is LogQL's, `{…}` alone, or the text says `logs:`. */
export function parseVariable(text: string): VariableCall | undefined {
  const kind = text.trim().startsWith('logs:') ? 'logs' : undefined;
  const query = text.trim().replace(/^logs:\s*/, '');
  if (/^label_names\(\s*\)$/.test(query)) return { call: 'label_names', kind: kind ?? 'metrics' };
  const values = /^label_values\((?:(.+),\s*)?([a-zA-Z_$][\w$]*)\s*\)$/.exec(query);
  if (values) {
    const selector = values[1]?.trim();
    return { call: 'label_values', kind: kind ?? (selector?.startsWith('{') ? 'logs' : 'metrics'), selector, label: values[2]! };
  }
  const metrics = /^metrics\((.+)\)$/.exec(query);
  if (metrics) return { call: 'metrics', pattern: metrics[1]!.trim() };
  const result = /^query_result\((.+)\)$/.exec(query);
  if (result) return { call: 'query_result', expr: result[1]!.trim() };
  return undefined;
}

export async function findValues(text: string, datasource: BinnacleDatasource): Promise<MetricFindValue[]> {
  const asked = parseVariable(getTemplateSrv().replace(text, {}, writeVariable));
  switch (asked?.call) {
    case 'label_names':
      return (await datasource.labelNames(asked.kind)).map((text) => ({ text }));
    case 'label_values':
      return (await datasource.labelValues(asked.label, asked.kind, asked.selector)).map((text) => ({ text }));
    case 'metrics': {
      const pattern = new RegExp(asked.pattern);
      return (await datasource.labelValues('__name__')).filter((name) => pattern.test(name)).map((text) => ({ text }));
    }
    case 'query_result': {
      const { data } = await datasource.get<{ data: { result: { metric: Record<string, string>; value: [number, string] }[] } }>('api/v1/query', { query: asked.expr });
      return data.result.map(({ metric: { __name__: name = '', ...labels }, value: [t, value] }) => ({
        text: `${name}{${Object.entries(labels).map(([key, value]) => `${key}="${value}"`).join(',')}} ${value} ${t * 1000}`,
      }));
    }
    default:
      return [];
  }
}

export class VariableSupport extends CustomVariableSupport<BinnacleDatasource, BinnacleQuery, BinnacleQuery> {
  constructor(private readonly datasource: BinnacleDatasource) {
    super();
  }
  override editor = VariableEditor;
  override query(request: DataQueryRequest<BinnacleQuery>): Observable<DataQueryResponse> {
    return from(findValues(request.targets[0]?.expr ?? '', this.datasource)).pipe(map((data) => ({ data })));
  }
}
