// The time that is looked at: a length that ends now, or from one instant to another.

import { useState } from 'preact/hooks';
import { Menu } from './parts/menu';
import { fromInput, instant, toInput } from './state/format';
import { RANGES, type Window, shiftWindow, showLength, showWindow, widenWindow } from './state/time';

export const windowText = (window: Window): string =>
  window.name ? `last ${window.name}` : `${instant(window.from)} – ${instant(window.to)}`;

function Fixed({ window, close }: { window: Window; close: () => void }) {
  const [from, setFrom] = useState(toInput(window.from));
  const [to, setTo] = useState(toInput(window.to));
  const submit = (event: Event) => {
    event.preventDefault();
    const [start, end] = [fromInput(from), fromInput(to)];
    if (!(end > start)) return;
    showWindow(start, end);
    close();
  };
  return (
    <form onSubmit={submit}>
      <label>from <input type="datetime-local" step={1} required value={from} onInput={(event) => setFrom(event.currentTarget.value)} /></label>
      <label>to <input type="datetime-local" step={1} required value={to} onInput={(event) => setTo(event.currentTarget.value)} /></label>
      <button type="submit" class="primary" disabled={!(fromInput(to) > fromInput(from))}>Show</button>
    </form>
  );
}

export function TimePicker({ window, onRefresh }: { window: Window; onRefresh: () => void }) {
  return (
    <div class="time" role="group" aria-label="Time">
      <button type="button" class="icon" onClick={() => shiftWindow(window, -0.5)} aria-label="Earlier">‹</button>
      <Menu label="Time range" class="time-menu" button={windowText(window)}>
        {(close) => (
          <div class="time-choices">
            <ul>
              {Object.keys(RANGES).map((name) => (
                <li key={name}>
                  <button type="button" aria-pressed={window.name === name} onClick={() => (showLength(name), close())}>last {name}</button>
                </li>
              ))}
            </ul>
            <Fixed window={window} close={close} />
          </div>
        )}
      </Menu>
      <button type="button" class="icon" disabled={Boolean(window.name)} onClick={() => shiftWindow(window, 0.5)} aria-label="Later">›</button>
      <button type="button" class="icon wide-only" onClick={() => widenWindow(window)} aria-label="Zoom out">−</button>
      <button type="button" class="icon wide-only" onClick={onRefresh} aria-label="Ask again">↻</button>
    </div>
  );
}
