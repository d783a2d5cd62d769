// The bar above a pane: the editor, its language, history, and what the query costs.

import { useEffect, useRef, useState } from 'preact/hooks';
import { labelNames, labelValues } from '../api/loki';
import { Menu } from '../parts/menu';
import type { Editor } from './editor';
import { addToHistory, readHistory, toggleStar } from './history';
import { type Language, errorPlace, languageOf } from './language';

interface Props {
  text: string;
  language: Language;
  /** Whether the person chose the language. */
  isPinned: boolean;
  label: string;
  error?: string;
  busy: boolean;
  autoFocus?: boolean;
  onRun: (text: string) => void;
  onLanguage: (language: Language) => void;
}

/** CodeMirror in a `div`; until it is there, a text field that works. */
function useEditor(props: Props, text: { current: string }, run: () => void, setText: (text: string) => void) {
  const holder = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | undefined>(undefined);
  const [isThere, setThere] = useState(false);
  const latest = useRef({ run, setText });
  latest.current = { run, setText };
  useEffect(() => {
    let gone = false;
    void import('./editor').then(({ openEditor }) => {
      if (gone) return;
      // Who types in the plain field already goes on typing here.
      const hadFocus = holder.current!.contains(document.activeElement);
      editor.current = openEditor({
        parent: holder.current!,
        text: text.current,
        language: props.language,
        label: props.label,
        promqlPath: new URL('api/v1', location.href.split('#')[0]).pathname,
        lines: { names: labelNames, values: labelValues },
        onChange: (text) => latest.current.setText(text),
        onRun: () => latest.current.run(),
      });
      setThere(true);
      if (hadFocus || (props.autoFocus && document.activeElement === document.body)) editor.current.focus();
    });
    return () => {
      gone = true;
      editor.current?.destroy();
    };
  }, []);
  return { holder, editor, isThere };
}

export function QueryBar(props: Props) {
  const [text, setTextState] = useState(props.text);
  const current = useRef(text);
  const setText = (next: string) => {
    current.current = next;
    setTextState(next);
  };
  const run = () => {
    addToHistory(current.current);
    props.onRun(current.current.trim());
  };
  const { holder, editor, isThere } = useEditor(props, current, run, setText);
  const typed: Language = props.isPinned ? props.language : text.trim() ? languageOf(text) : props.language;
  useEffect(() => {
    setText(props.text);
    editor.current?.setText(props.text);
  }, [props.text, isThere]);
  useEffect(() => editor.current?.setLanguage(typed), [typed, isThere]);
  useEffect(() => {
    const place = props.error ? errorPlace(props.error, props.text) : undefined;
    editor.current?.setFault(place && { ...place, message: props.error! });
  }, [props.error, props.text, isThere]);
  return (
    <form class="query-bar" onSubmit={(event) => (event.preventDefault(), run())}>
      <div class="segments" role="group" aria-label="Language">
        {(['promql', 'logql'] as const).map((name) => (
          <button type="button" key={name} aria-pressed={typed === name} onClick={() => props.onLanguage(name)}>
            {name === 'promql' ? 'Metrics' : 'Logs'}
          </button>
        ))}
      </div>
      <div class="editor" ref={holder}>
        {!isThere && (
          <textarea aria-label={props.label} rows={1} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        )}
      </div>
      <HistoryMenu onPick={(one) => (setText(one), editor.current?.setText(one), props.onRun(one))} />
      <button type="submit" class="primary" data-busy={props.busy}>Run</button>
    </form>
  );
}

function HistoryMenu({ onPick }: { onPick: (text: string) => void }) {
  const [all, setAll] = useState(readHistory);
  return (
    <Menu label="History" button="History" onOpen={() => setAll(readHistory())}>
      {(close) => (
        <ul class="history">
          {all.length === 0 && <li class="note">What you run is kept here, in this browser.</li>}
          {all.map((one) => (
            <li key={one.text}>
              <button type="button" class="bare" aria-pressed={one.starred} aria-label={one.starred ? 'Unstar' : 'Star'} onClick={() => setAll(toggleStar(one.text))}>
                {one.starred ? '★' : '☆'}
              </button>
              <button type="button" class="bare wide" onClick={() => (close(), onPick(one.text))}><code>{one.text}</code></button>
            </li>
          ))}
        </ul>
      )}
    </Menu>
  );
}
