// The datasource's settings: where Binnacle is, and how many lines a query gives.

import type { DataSourcePluginOptionsEditorProps } from '@grafana/data';
import { DataSourceHttpSettings, InlineField, Input } from '@grafana/ui';
import { type BinnacleOptions, DEFAULT_LINES, MAX_LINES } from '../types';

export function ConfigEditor({ options, onOptionsChange }: DataSourcePluginOptionsEditorProps<BinnacleOptions>) {
  return (
    <>
      <DataSourceHttpSettings defaultUrl="http://localhost:9090" dataSourceConfig={options} onChange={onOptionsChange} />
      <InlineField label="Lines of a query" labelWidth={26} tooltip={`At most ${MAX_LINES}`}>
        <Input
          type="number" aria-label="Lines of a query" width={16} min={1} max={MAX_LINES} placeholder={String(DEFAULT_LINES)} value={options.jsonData.maxLines ?? ''}
          onChange={(event) => onOptionsChange({ ...options, jsonData: { ...options.jsonData, maxLines: Number(event.currentTarget.value) || undefined } })}
        />
      </InlineField>
    </>
  );
}
