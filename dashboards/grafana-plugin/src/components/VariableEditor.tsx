// A variable's query: one of the known functions.

import type { QueryEditorProps } from '@grafana/data';
import { InlineField, Input } from '@grafana/ui';
import { useState } from 'react';
import type { BinnacleDatasource } from '../datasource';
import type { BinnacleOptions, BinnacleQuery } from '../types';
import { parseVariable } from '../variables';

type Props = QueryEditorProps<BinnacleDatasource, BinnacleQuery, BinnacleOptions, BinnacleQuery>;

export function VariableEditor({ query, onChange }: Props) {
  const [text, setText] = useState(query.expr ?? '');
  const isWrong = text.trim() !== '' && !parseVariable(text);
  return (
    <InlineField
      label="Query" labelWidth={14} grow invalid={isWrong}
      error="label_names(), label_values(selector, label), metrics(pattern) or query_result(expression); logs: before it for the labels of lines"
    >
      <Input
        aria-label="Variable query" placeholder="label_values(up, job)" value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        onBlur={() => onChange({ ...query, refId: query.refId || 'variable', kind: 'metrics', expr: text })}
      />
    </InlineField>
  );
}
