// The code of a query: the editor of Binnacle's own page, with its two languages and its completion.

import { useEffect, useRef } from 'react';
import { type Editor, openEditor } from '../../../ui/src/explore/editor';
import type { BinnacleDatasource } from '../datasource';
import type { Kind } from '../types';

interface Props {
  kind: Kind;
  value: string;
  datasource: BinnacleDatasource;
  onChange: (text: string) => void;
  onRun: () => void;
}

const STYLE = `
.binnacle-code { flex: 1; min-width: 0; border: 1px solid var(--binnacle-line, rgba(128,128,128,.35)); border-radius: 2px; }
.binnacle-code .cm-content { font: 13px/20px monospace; padding: 5px 4px; }
.binnacle-code .cm-editor { outline: none; }
.theme-dark .binnacle-code, .binnacle-code { --code-call: #b877d9; --code-label: #5794f2; --code-string: #73bf69; --code-number: #ff9830; --code-operator: #8e8e8e; --muted: #8e8e8e; }
`;

export function CodeField({ kind, value, datasource, onChange, onRun }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | undefined>(undefined);
  const latest = useRef({ onChange, onRun });
  latest.current = { onChange, onRun };
  const language = kind === 'logs' ? 'logql' : 'promql';
  useEffect(() => {
    editor.current = openEditor({
      parent: holder.current!,
      text: value,
      language,
      label: 'Expression',
      promqlPath: `${datasource.url}/api/v1`,
      lines: { names: () => datasource.labelNames('logs'), values: (name, selector) => datasource.labelValues(name, 'logs', selector) },
      onChange: (text) => latest.current.onChange(text),
      onRun: () => latest.current.onRun(),
    });
    return () => editor.current?.destroy();
  }, [datasource]);
  useEffect(() => editor.current?.setText(value), [value]);
  useEffect(() => editor.current?.setLanguage(language), [language]);
  return (
    <>
      <style>{STYLE}</style>
      <div ref={holder} className="binnacle-code" data-testid="code" />
    </>
  );
}
