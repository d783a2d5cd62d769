// What a query and the datasource's settings are.

import type { DataSourceJsonData } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';

export type Kind = 'metrics' | 'logs' | 'alerts';
export type Format = 'series' | 'table' | 'heatmap';

export interface BinnacleQuery extends DataQuery {
  kind: Kind;
  /** PromQL, LogQL, or for alerts matchers of the series `ALERTS`. */
  expr: string;
  format?: Format;
  /** At the end of the time only. */
  instant?: boolean;
  /** `{{label}}` is the label's value. */
  legend?: string;
  maxLines?: number;
  mode?: 'code' | 'builder';
  /** What Explore asks for beside a query. */
  supplementary?: 'volume' | 'sample';
}

export interface BinnacleOptions extends DataSourceJsonData {
  maxLines?: number;
}

export const DEFAULT_LINES = 1000;
export const MAX_LINES = 5000;
