// The frame: navigation, the time, zone and theme, the shortcuts, and the view that the URL names.

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Alerts } from './alerts/view';
import { Explore } from './explore/view';
import { Home } from './home/view';
import icon from './icon.svg';
import { Shortcuts, useShortcuts } from './shortcuts';
import { linkTo, useRoute } from './state/route';
import { useZone, windowOf } from './state/time';
import { Status } from './status/view';
import './style/base.css';
import './style/views.css';
import { TenantPicker } from './tenant-picker';
import { TimePicker } from './time-picker';

const VIEWS: [string, string][] = [['home', 'Home'], ['explore', 'Explore'], ['alerts', 'Alerts'], ['status', 'Status']];

function useThemeChoice(): [string, () => void] {
  const preferred = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  const [theme, setTheme] = useState(localStorage.getItem('theme') ?? preferred);
  document.documentElement.dataset.theme = theme;
  const toggle = () => {
    const next = theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem('theme', next);
    setTheme(next);
  };
  return [theme, toggle];
}

function App() {
  const { view, params } = useRoute();
  const [theme, toggleTheme] = useThemeChoice();
  const [zone, toggleZone] = useZone();
  const [turn, setTurn] = useState(0);
  const [isHelpOpen, setHelpOpen] = useState(false);
  const window = windowOf(params);
  const refresh = () => setTurn((turn) => turn + 1);
  useShortcuts({ window, refresh, toggleTheme, toggleZone, help: () => setHelpOpen(true) });
  useEffect(() => scrollTo(0, 0), [view, params.get('tab')]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById('main')?.focus())}>To the content</a>
      <header class="top">
        <a class="brand" href={linkTo('home')}><img src={icon} alt="" width={26} height={26} /> <span>Binnacle</span></a>
        <nav class="views" aria-label="Views">
          {VIEWS.map(([id, title]) => (
            <a key={id} href={linkTo(id)} aria-current={view === id ? 'page' : undefined}>{title}</a>
          ))}
        </nav>
        <TenantPicker />
        <TimePicker window={window} onRefresh={refresh} />
        <button type="button" class="zone" onClick={toggleZone} title="Time zone (z)">{zone === 'utc' ? 'UTC' : 'Local'}</button>
        <button type="button" class="icon" onClick={toggleTheme} aria-label={`Switch to ${theme === 'dark' ? 'light' : 'dark'} theme`}>{theme === 'dark' ? '☀' : '☾'}</button>
        <button type="button" class="icon help" onClick={() => setHelpOpen(true)} aria-label="Keyboard shortcuts">?</button>
      </header>
      <main id="main" tabIndex={-1} key={`${zone}${turn}${params.get('tenant') ?? ''}`}>
        {view === 'home' && <Home window={window} />}
        {view === 'explore' && <Explore params={params} window={window} />}
        {view === 'alerts' && <Alerts params={params} window={window} />}
        {view === 'status' && <Status params={params} window={window} />}
        {!VIEWS.some(([id]) => id === view) && <p class="empty">There is no view “{view}”. <a href={linkTo('home')}>Home</a></p>}
      </main>
      {isHelpOpen && <Shortcuts onClose={() => setHelpOpen(false)} />}
    </>
  );
}

render(<App />, document.getElementById('app')!);
