// A query put together by choosing.

import { Button, InlineField, InlineFieldRow, Input, Select } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { AGGREGATIONS, type Built, type BuiltMatcher, OVER_TIME, write } from '../builder';
import type { BinnacleDatasource } from '../datasource';

interface Props {
  kind: 'metrics' | 'logs';
  built: Built;
  datasource: BinnacleDatasource;
  onChange: (expr: string) => void;
}

const choices = (values: string[]) => values.map((value) => ({ label: value, value }));
const OPERATORS: BuiltMatcher['operator'][] = ['=', '!=', '=~', '!~'];

function useNames(load: () => Promise<string[]>, deps: unknown[]): string[] {
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    let isGone = false;
    load().then((found) => isGone || setNames(found), () => {});
    return () => {
      isGone = true;
    };
  }, deps);
  return names;
}

function MatcherFields({ kind, matcher, names, datasource, onChange, onRemove }: { matcher: BuiltMatcher; names: string[]; onChange: (matcher: BuiltMatcher) => void; onRemove: () => void } & Pick<Props, 'kind' | 'datasource'>) {
  const values = useNames(() => (matcher.name ? datasource.labelValues(matcher.name, kind) : Promise.resolve([])), [matcher.name, kind]);
  return (
    <>
      <Select aria-label="Label" width="auto" allowCustomValue placeholder="label" options={choices(names)} value={matcher.name || null} onChange={({ value }) => onChange({ ...matcher, name: value ?? '' })} />
      <Select aria-label="Operator" width="auto" options={choices(OPERATORS)} value={matcher.operator} onChange={({ value }) => onChange({ ...matcher, operator: value as BuiltMatcher['operator'] })} />
      <Select aria-label="Value" width="auto" allowCustomValue placeholder="value" options={choices(values)} value={matcher.value || null} onChange={({ value }) => onChange({ ...matcher, value: value ?? '' })} />
      <Button variant="secondary" icon="times" aria-label="Remove the label" onClick={onRemove} />
    </>
  );
}

export function Builder({ kind, built, datasource, onChange }: Props) {
  const metrics = useNames(() => (kind === 'metrics' ? datasource.labelValues('__name__') : Promise.resolve([])), [kind]);
  const names = useNames(() => datasource.labelNames(kind), [kind]);
  const set = (changes: Partial<Built>) => onChange(write({ ...built, ...changes }, kind));
  const setMatcher = (i: number, matcher?: BuiltMatcher) => set({ matchers: built.matchers.flatMap((one, k) => (k === i ? (matcher ? [matcher] : []) : [one])) });
  // A matcher without a name is not written: it lives here until it has one.
  const [draft, setDraft] = useState<BuiltMatcher>();
  return (
    <>
      <InlineFieldRow>
        {kind === 'metrics' && (
          <InlineField label="Metric" labelWidth={14}>
            <Select aria-label="Metric" width={48} allowCustomValue virtualized placeholder="metric" options={choices(metrics)} value={built.metric || null} onChange={({ value }) => set({ metric: value ?? '' })} />
          </InlineField>
        )}
        {kind === 'logs' && (
          <InlineField label="Contains" labelWidth={14}>
            <Input aria-label="Contains" width={48} defaultValue={built.contains} onBlur={(event) => set({ contains: event.currentTarget.value })} />
          </InlineField>
        )}
      </InlineFieldRow>
      <InlineFieldRow>
        <InlineField label="Labels" labelWidth={14}>
          <>
            {built.matchers.map((matcher, i) => (
              <MatcherFields key={i} kind={kind} matcher={matcher} names={names} datasource={datasource} onChange={(next) => setMatcher(i, next)} onRemove={() => setMatcher(i)} />
            ))}
            {draft && (
              <MatcherFields
                kind={kind} matcher={draft} names={names} datasource={datasource} onRemove={() => setDraft(undefined)}
                onChange={(next) => (next.name && next.value ? (setDraft(undefined), set({ matchers: [...built.matchers, next] })) : setDraft(next))}
              />
            )}
            <Button variant="secondary" icon="plus" aria-label="Add a label" onClick={() => setDraft({ name: '', operator: '=', value: '' })} />
          </>
        </InlineField>
      </InlineFieldRow>
      <InlineFieldRow>
        <InlineField label="Over time" labelWidth={14}>
          <Select aria-label="Over time" width={24} isClearable placeholder={kind === 'logs' ? 'the lines' : 'the values'} options={choices(OVER_TIME[kind])} value={built.overTime ?? null} onChange={(choice) => set({ overTime: choice?.value, aggregation: kind === 'logs' && !choice ? undefined : built.aggregation })} />
        </InlineField>
        <InlineField label="Aggregate" labelWidth={14}>
          <Select aria-label="Aggregate" width={16} isClearable placeholder="each series" options={choices(AGGREGATIONS)} value={built.aggregation ?? null} onChange={(choice) => set({ aggregation: choice?.value })} />
        </InlineField>
        {built.aggregation && (
          <InlineField label="by">
            <Input aria-label="By" width={32} placeholder="labels, with commas" defaultValue={built.by.join(', ')} onBlur={(event) => set({ by: event.currentTarget.value.split(',').map((name) => name.trim()).filter(Boolean) })} />
          </InlineField>
        )}
      </InlineFieldRow>
    </>
  );
}
