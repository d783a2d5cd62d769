// Queries of other datasources, as label matchers, and ours for them.

import { type AbstractLabelMatcher, AbstractLabelOperator, type AbstractQuery } from '@grafana/data';
import { selectorOf } from '../../ui/src/explore/language';
import type { BinnacleQuery } from './types';

const OPERATORS: [string, AbstractLabelOperator][] = [
  ['=~', AbstractLabelOperator.EqualRegEx], ['!~', AbstractLabelOperator.NotEqualRegEx], ['!=', AbstractLabelOperator.NotEqual], ['=', AbstractLabelOperator.Equal],
];

export function fromAbstract(query: AbstractQuery): BinnacleQuery {
  const write = ({ name, operator, value }: AbstractLabelMatcher) => `${name}${OPERATORS.find(([, one]) => one === operator)![0]}${JSON.stringify(value)}`;
  const metric = query.labelMatchers.find(({ name, operator }) => name === '__name__' && operator === AbstractLabelOperator.Equal);
  const rest = query.labelMatchers.filter((one) => one !== metric).map(write);
  if (metric) return { refId: query.refId, kind: 'metrics', expr: `${metric.value}${rest.length ? `{${rest.join(', ')}}` : ''}` };
  return { refId: query.refId, kind: 'logs', expr: rest.length ? `{${rest.join(', ')}}` : '' };
}

export function toAbstract(query: BinnacleQuery): AbstractQuery {
  const labelMatchers: AbstractLabelMatcher[] = [];
  const metric = query.kind === 'metrics' ? /([a-zA-Z_:][\w:]*)\s*[{[]/.exec(query.expr)?.[1] : undefined;
  if (metric) labelMatchers.push({ name: '__name__', operator: AbstractLabelOperator.Equal, value: metric });
  for (const [, name, operator, value] of selectorOf(query.expr).matchAll(/([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")/g)) {
    labelMatchers.push({ name: name!, operator: OPERATORS.find(([text]) => text === operator)![1], value: JSON.parse(value!) as string });
  }
  return { refId: query.refId, labelMatchers };
}
