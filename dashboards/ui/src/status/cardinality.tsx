// Where the series are: by metric, by label, by value, by the hour they came; which nobody reads; and for one metric, which
// labels make them many.

import { type Count, cardinality, listing, value } from '../api/prometheus';
import { ago, bytes, count, instant } from '../state/format';
import { useLoad } from '../state/load';
import { linkTo } from '../state/route';

const TOP = 30;
const MAX_LABELS = 20;

interface ListProps {
  title: string;
  rows: Count[];
  total?: number;
  format?: (value: number) => string;
  href?: (name: string) => string;
}

function TopList({ title, rows, total, format = count, href }: ListProps) {
  const most = Math.max(1, ...rows.map(({ value }) => value));
  return (
    <section class="card toplist" aria-label={title}>
      <h2>{title}</h2>
      <ol>
        {rows.map(({ name, value }) => (
          <li key={name}>
            <span class="share" style={{ width: `${(100 * value) / most}%` }} />
            {href ? <a href={href(name)}>{name}</a> : <span>{name}</span>}
            <b>{format(value)}</b>
            {total ? <span class="note">{((100 * value) / total).toFixed(1)} %</span> : null}
          </li>
        ))}
      </ol>
    </section>
  );
}

/** How many values each label of a metric has. */
async function labelsOf(metric: string): Promise<{ series: number; labels: Count[] }> {
  const selector = `{__name__=${JSON.stringify(metric)}}`;
  const names = (await listing('labels', { 'match[]': selector })).filter((name) => name !== '__name__').slice(0, MAX_LABELS);
  const counts = await Promise.all(names.map((name) => value(`count(count by (${JSON.stringify(name)}) (${selector}))`)));
  const labels = names.map((name, i) => ({ name, value: counts[i] || 0 })).sort((a, b) => b.value - a.value);
  return { series: await value(`count(${selector})`), labels };
}

function Metric({ metric }: { metric: string }) {
  const { data, error } = useLoad(() => labelsOf(metric), [metric]);
  return (
    <>
      <p class="bar"><a href={linkTo('status', { tab: 'cardinality' })}>all metrics</a> / <strong>{metric}</strong> <a class="button" href={linkTo('explore', { q: metric, show: 'table' })}>Explore</a></p>
      {error && <p class="error" role="alert">{error}</p>}
      {data && <p class="note">{count(data.series || 0)} series. Without the label at the top there would be the fewest.</p>}
      {data && <TopList title="Values of each label" rows={data.labels} href={(name) => linkTo('explore', { q: `sort_desc(count by (${name}) ({__name__=${JSON.stringify(metric)}}))`, show: 'table' })} />}
    </>
  );
}

export function CardinalityExplorer({ metric }: { metric?: string }) {
  const { data, error } = useLoad(() => cardinality(TOP), [], 30_000);
  if (metric) return <Metric metric={metric} />;
  if (!data) return error ? <p class="error" role="alert">{error}</p> : <p class="empty">counting…</p>;
  const total = data.headStats.numSeries;
  const hours = data.seriesCountByFirstHour.map(({ time, value }) => ({ name: instant(time * 1000), value }));
  return (
    <>
      <p class="note">{count(total)} series with {count(data.headStats.numLabelPairs)} label pairs are in memory.</p>
      <div class="grid">
        <TopList title="Series of each metric" rows={data.seriesCountByMetricName} total={total} href={(name) => linkTo('status', { tab: 'cardinality', metric: name })} />
        <TopList title="Series with a label's value" rows={data.seriesCountByLabelValuePair} total={total} />
        <TopList title="Values of each label" rows={data.labelValueCountByLabelName} />
        <TopList title="Memory of each label" rows={data.memoryInBytesByLabelName} format={bytes} />
        <TopList title={`Metrics nobody has read, since the start ${ago(data.readSince * 1000)}`} rows={data.seriesCountByUnreadMetricName} total={total} href={(name) => linkTo('status', { tab: 'cardinality', metric: name })} />
        <TopList title="Series of today, by the hour they came" rows={hours} />
      </div>
    </>
  );
}
