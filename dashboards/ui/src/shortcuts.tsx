// Everything can be reached by keys; the list of them is a key away.

import { useEffect, useRef } from 'preact/hooks';
import { Dialog } from './parts/dialog';
import { linkTo } from './state/route';
import { type Window, shiftWindow, widenWindow } from './state/time';

interface Actions {
  window: Window;
  refresh: () => void;
  toggleTheme: () => void;
  toggleZone: () => void;
  help: () => void;
}

const LIST: [string, string][] = [
  ['g h', 'Home'], ['g e', 'Explore'], ['g l', 'All logs'], ['g a', 'Alerts'], ['g s', 'Status'],
  ['/', 'to the expression or search'], ['Enter', 'in the expression: run'], ['Shift Enter', 'in the expression: a new line'], ['Alt /', 'in the expression: complete'], ['Escape', 'leave the expression'],
  ['t', 'choose a time'], ['[  ]', 'earlier, later'], ['−', 'twice the time'], ['r', 'ask again'],
  ['p', 'pause or go on with the live tail'], ['j  k', 'next and previous line'],
  ['d', 'dark or light'], ['z', 'local time or UTC'], ['?', 'this list'],
];

const GO: Record<string, () => string> = {
  h: () => linkTo('home'),
  e: () => linkTo('explore'),
  l: () => linkTo('explore', { q: '{filename=~".+"}' }),
  a: () => linkTo('alerts'),
  s: () => linkTo('status'),
};

const click = (selector: string) => document.querySelector<HTMLElement>(selector)?.click();
const focus = (selector: string) => document.querySelector<HTMLElement>(selector)?.focus();

/** Whether what is typed belongs to a field. */
function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement;
  return target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName) || Boolean(target.closest?.('dialog'));
}

export function useShortcuts(actions: Actions): void {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    let goes = 0;
    const byKey: Record<string, () => void> = {
      '/': () => focus('.cm-content, .editor textarea, input[type=search]'),
      t: () => click('.time-menu > button'),
      '[': () => shiftWindow(latest.current.window, -0.5),
      ']': () => shiftWindow(latest.current.window, 0.5),
      '-': () => widenWindow(latest.current.window),
      r: () => latest.current.refresh(),
      p: () => click('[data-key=p]'),
      d: () => latest.current.toggleTheme(),
      z: () => latest.current.toggleZone(),
      '?': () => latest.current.help(),
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event)) return;
      const target = goes > Date.now() - 1000 ? GO[event.key] : undefined;
      goes = event.key === 'g' ? Date.now() : 0;
      const action = target ? () => (location.hash = target()) : byKey[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}

export function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="shortcuts">
        {LIST.map(([keys, what]) => (
          <div key={keys}>
            <dt>{keys.split(/\s+/).map((key) => <kbd key={key}>{key}</kbd>)}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
