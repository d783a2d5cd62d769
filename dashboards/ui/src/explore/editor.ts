// The query editor: CodeMirror with PromQL and LogQL. A chunk of its own, loaded with Explore.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, completionStatus, startCompletion } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, insertNewline } from '@codemirror/commands';
import { HighlightStyle, bracketMatching, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { Compartment, EditorState, Prec } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { PromQLExtension } from '@prometheus-io/codemirror-promql';
import { tags } from '@lezer/highlight';
import { tenantHeaders } from '../api/http';
import { type Language, isMixed } from './language';
import { type LabelSource, logql } from './logql';

export interface Editor {
  setText: (text: string) => void;
  setLanguage: (language: Language) => void;
  /** A fault to be marked; none takes the mark away. */
  setFault: (fault?: { from: number; to: number; message: string }) => void;
  focus: () => void;
  destroy: () => void;
}

interface Options {
  parent: HTMLElement;
  text: string;
  language: Language;
  label: string;
  /** Where Prometheus' API is, for completion: `/api/v1`. */
  promqlPath: string;
  /** Labels of lines, for completion. */
  lines: LabelSource;
  onChange: (text: string) => void;
  onRun: () => void;
}

const COLOURS = HighlightStyle.define([
  { tag: [tags.function(tags.variableName), tags.keyword, tags.operatorKeyword, tags.modifier], color: 'var(--code-call)' },
  { tag: [tags.labelName, tags.propertyName], color: 'var(--code-label)' },
  { tag: [tags.string, tags.regexp], color: 'var(--code-string)' },
  { tag: [tags.number, tags.bool], color: 'var(--code-number)' },
  { tag: tags.operator, color: 'var(--code-operator)' },
  { tag: tags.comment, color: 'var(--muted)', fontStyle: 'italic' },
]);

/** PromQL; its own faults are marked as one types, unless lines are counted in it: that only the server understands. */
function promql(apiPrefix: string, hasLines: boolean) {
  return new PromQLExtension()
    .activateLinter(!hasLines)
    .setComplete({ remote: { url: '', apiPrefix, httpMethod: 'GET', requestHeaders: new Headers(tenantHeaders()), cache: { maxAge: 60_000 }, httpErrorHandler: () => {} } })
    .asExtension();
}

export function openEditor(options: Options): Editor {
  const language = new Compartment();
  let shown = { name: options.language, hasLines: isMixed(options.text) };
  const extension = () => (shown.name === 'promql' ? promql(options.promqlPath, shown.hasLines) : logql(options.lines));
  let isOurs = false;
  const run = () => {
    options.onRun();
    return true;
  };
  const view = new EditorView({
    parent: options.parent,
    state: EditorState.create({
      doc: options.text,
      selection: { anchor: options.text.length },
      extensions: [
        language.of(extension()),
        history(), bracketMatching(), closeBrackets(), autocompletion({ icons: false }), syntaxHighlighting(COLOURS),
        EditorView.lineWrapping,
        placeholder('An expression: up, rate(node_cpu_seconds_total[1m]), {filename=~".+"} |= "error"'),
        EditorView.contentAttributes.of({ 'aria-label': options.label, spellcheck: 'false' }),
        Prec.highest(keymap.of([
          { key: 'Enter', run: (view) => (completionStatus(view.state) === 'active' ? acceptCompletion(view) : run()) },
          { key: 'Mod-Enter', run },
          { key: 'Shift-Enter', run: insertNewline },
          { key: 'Tab', run: acceptCompletion },
          { key: 'Alt-/', run: startCompletion },
          { key: 'Escape', run: (view) => (completionStatus(view.state) ? false : (view.contentDOM.blur(), true)) },
        ])),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          const text = update.state.doc.toString();
          const hasLines = isMixed(text);
          if (hasLines !== shown.hasLines) queueMicrotask(() => show({ ...shown, hasLines }));
          if (!isOurs) options.onChange(text);
        }),
      ],
    }),
  });
  const show = (next: typeof shown) => {
    if (next.name === shown.name && next.hasLines === shown.hasLines) return;
    shown = next;
    view.dispatch({ effects: language.reconfigure(extension()) });
  };
  return {
    setText(text) {
      if (text === view.state.doc.toString()) return;
      isOurs = true;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
      isOurs = false;
    },
    setLanguage: (name) => show({ ...shown, name }),
    setFault(fault) {
      const length = view.state.doc.length;
      const mark: Diagnostic[] = fault && fault.from <= length ? [{ ...fault, to: Math.min(fault.to, length), severity: 'error' }] : [];
      view.dispatch(setDiagnostics(view.state, mark));
    },
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}
