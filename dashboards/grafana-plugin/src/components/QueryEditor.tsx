// A query: of which kind, as code or built, and how it is shown.

import type { QueryEditorProps } from '@grafana/data';
import { Alert, InlineField, InlineFieldRow, InlineSwitch, Input, RadioButtonGroup, Select } from '@grafana/ui';
import { read } from '../builder';
import type { BinnacleDatasource } from '../datasource';
import { type BinnacleOptions, type BinnacleQuery, type Format, type Kind, MAX_LINES } from '../types';
import { Builder } from './Builder';
import { CodeField } from './CodeField';

type Props = QueryEditorProps<BinnacleDatasource, BinnacleQuery, BinnacleOptions>;

const KINDS: { label: string; value: Kind }[] = [{ label: 'Metrics', value: 'metrics' }, { label: 'Logs', value: 'logs' }, { label: 'Alerts', value: 'alerts' }];
const MODES = [{ label: 'Builder', value: 'builder' as const }, { label: 'Code', value: 'code' as const }];
const FORMATS: { label: string; value: Format }[] = [{ label: 'Time series', value: 'series' }, { label: 'Table', value: 'table' }, { label: 'Heatmap', value: 'heatmap' }];

function Options({ query, onChange, onRunQuery }: Pick<Props, 'query' | 'onChange' | 'onRunQuery'>) {
  const set = (changes: Partial<BinnacleQuery>) => {
    onChange({ ...query, ...changes });
    onRunQuery();
  };
  return (
    <InlineFieldRow>
      {query.kind !== 'alerts' && (
        <>
          <InlineField label="Legend" labelWidth={14}>
            <Input aria-label="Legend" width={24} placeholder="{{instance}}" defaultValue={query.legend} onBlur={(event) => set({ legend: event.currentTarget.value || undefined })} />
          </InlineField>
          <InlineField label="Format">
            <Select aria-label="Format" width={16} options={FORMATS} value={query.format ?? 'series'} onChange={({ value }) => set({ format: value })} />
          </InlineField>
          <InlineField label="Instant">
            <InlineSwitch aria-label="Instant" value={Boolean(query.instant)} onChange={(event) => set({ instant: event.currentTarget.checked })} />
          </InlineField>
        </>
      )}
      {query.kind === 'logs' && (
        <InlineField label="Lines">
          <Input aria-label="Lines" type="number" min={1} max={MAX_LINES} width={12} placeholder="auto" defaultValue={query.maxLines} onBlur={(event) => set({ maxLines: Number(event.currentTarget.value) || undefined })} />
        </InlineField>
      )}
    </InlineFieldRow>
  );
}

export function QueryEditor({ query: given, datasource, onChange, onRunQuery }: Props) {
  const query: BinnacleQuery = { ...given, kind: given.kind ?? 'metrics', expr: given.expr ?? '' };
  const mode = query.mode ?? 'code';
  const built = mode === 'builder' ? read(query) : undefined;
  const setExpr = (expr: string) => onChange({ ...query, expr });
  return (
    <>
      <InlineFieldRow>
        <InlineField label="Query" labelWidth={14}>
          <RadioButtonGroup options={KINDS} value={query.kind} onChange={(kind) => onChange({ ...query, kind, expr: '' })} />
        </InlineField>
        {query.kind !== 'alerts' && <RadioButtonGroup options={MODES} value={mode} onChange={(mode) => onChange({ ...query, mode })} />}
      </InlineFieldRow>
      {query.kind === 'alerts' && (
        <InlineField label="Alerts with" labelWidth={14} grow>
          <Input aria-label="Alerts with" placeholder='alertname="Down", severity="critical"' defaultValue={query.expr} onBlur={(event) => (setExpr(event.currentTarget.value), onRunQuery())} />
        </InlineField>
      )}
      {query.kind !== 'alerts' && mode === 'builder' && built && (
        <Builder kind={query.kind} built={built} datasource={datasource} onChange={(expr) => (setExpr(expr), onRunQuery())} />
      )}
      {query.kind !== 'alerts' && mode === 'builder' && !built && <Alert severity="info" title="The builder does not know this expression: go on in code." />}
      {query.kind !== 'alerts' && (mode === 'code' || !built) && <CodeField kind={query.kind} value={query.expr} datasource={datasource} onChange={setExpr} onRun={onRunQuery} />}
      <Options query={query} onChange={onChange} onRunQuery={onRunQuery} />
    </>
  );
}
