// The frame: navigation, the range, the theme, and the view that the URL names.

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import icon from './icon.svg';
import { RANGES } from './range';
import { formatRoute, setParams, useRoute } from './route';
import './style.css';
import { Alerts } from './views/alerts';
import { Explore } from './views/explore';
import { Home } from './views/home';
import { Logs } from './views/logs';
import { Status } from './views/status';

const VIEWS: [string, string][] = [['home', 'Home'], ['explore', 'Metrics'], ['logs', 'Logs'], ['alerts', 'Alerts'], ['status', 'Status']];

function useTheme(): [string, () => void] {
  const preferred = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  const [theme, setTheme] = useState(localStorage.getItem('theme') ?? preferred);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const toggle = () => {
    const next = theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem('theme', next);
    setTheme(next);
  };
  return [theme, toggle];
}

function App() {
  const { view, params } = useRoute();
  const [theme, toggleTheme] = useTheme();
  const range = params.get('range') ?? '15m';
  const q = params.get('q');
  return (
    <>
      <header class="top">
        <a class="brand" href="#/home"><img src={icon} alt="" width={26} height={26} /> Binnacle</a>
        <nav aria-label="Views">
          {VIEWS.map(([id, title]) => (
            <a key={id} href={formatRoute(id, { range: params.get('range') ?? undefined })} aria-current={view === id ? 'page' : undefined}>{title}</a>
          ))}
        </nav>
        <select value={range} onChange={(event) => setParams({ range: event.currentTarget.value })} aria-label="Time range">
          {Object.keys(RANGES).map((name) => <option key={name} value={name}>last {name}</option>)}
        </select>
        <button class="theme" onClick={toggleTheme} aria-label={`Switch to ${theme === 'dark' ? 'light' : 'dark'} theme`}>{theme === 'dark' ? '☀' : '☾'}</button>
      </header>
      <main>
        {view === 'home' && <Home range={range} />}
        {view === 'explore' && <Explore key={q} range={range} q={q} />}
        {view === 'logs' && <Logs range={range} q={q} search={params.get('search')} live={params.get('live') !== 'off'} />}
        {view === 'alerts' && <Alerts />}
        {view === 'status' && <Status />}
      </main>
    </>
  );
}

render(<App />, document.getElementById('app')!);
