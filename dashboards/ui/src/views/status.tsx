// Status: what is scraped, what is tailed, and what the bus holds.

import { status, targets } from '../api';
import { bytes, clock, duration, labelText } from '../format';
import { useLoad } from '../load';

async function load() {
  const [state, scraped] = await Promise.all([status(), targets()]);
  return { state, scraped };
}

export function Status() {
  const { data, error } = useLoad(load, [], 5_000);
  return (
    <>
      <h1>Status</h1>
      {error && <p class="error" role="alert">{error}</p>}
      {data && (
        <>
          <p class="note">Binnacle {data.state.version}, up for {duration(data.state.uptime_seconds)}</p>
          <h2>Bus</h2>
          <table class="card">
            <thead><tr><th>Topic</th><th class="number">First record</th><th class="number">Next record</th><th class="number">Kept</th></tr></thead>
            <tbody>
              {data.state.bus.map((topic) => (
                <tr key={topic.topic}>
                  <td>{topic.topic}</td>
                  <td class="number">{topic.start}</td>
                  <td class="number">{topic.end}</td>
                  <td class="number">{bytes(topic.retained_bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <h2>Tailed files</h2>
          <table class="card">
            <thead><tr><th>File</th><th>Format</th><th class="number">Read</th><th class="number">Behind</th></tr></thead>
            <tbody>
              {data.state.files.map((file) => (
                <tr key={file.path}>
                  <td><code>{file.path}</code></td>
                  <td>{file.format}</td>
                  <td class="number">{bytes(file.offset)}</td>
                  <td class="number">{bytes(Math.max(0, file.size - file.offset))}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <h2>Scrape targets</h2>
          {data.scraped.length === 0 && <p class="note">No scrape_configs with static targets.</p>}
          <table class="card">
            <tbody>
              {data.scraped.map((target) => (
                <tr key={target.scrapeUrl}>
                  <td><code>{target.scrapeUrl}</code></td>
                  <td><code>{labelText(target.labels)}</code></td>
                  <td><span class={`badge ${target.health === 'up' ? '' : 'firing'}`}>{target.health}</span></td>
                  <td class="note">{target.lastError || `last ${clock(Date.parse(target.lastScrape))}`}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </>
  );
}
