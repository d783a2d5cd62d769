// One line: its time, its level's colour, its text with the searched words marked; opened, everything that is known of it.

import { useState } from 'preact/hooks';
import type { Line } from '../api/loki';
import { levelColour } from '../chart/colours';
import { clock } from '../state/format';
import { linkTo, setParams } from '../state/route';
import { Context } from './context';
import { type Parser, fieldsOf, jsonOf } from './fields';
import { metricsFor } from './language';

export type Words = { word: string; isPattern: boolean }[];

/** Pieces of a text, every second one marked. */
export function marked(text: string, words: Words): string[] {
  if (words.length === 0) return [text];
  const sources = words.map(({ word, isPattern }) => (isPattern ? word.replace(/^\(\?i\)/, '') : word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
  try {
    // Go's syntax is nearly JavaScript's; where it is not, nothing is marked.
    const pattern = new RegExp(sources.map((one) => `(?:${one})`).join('|'), words.some(({ word }) => word.startsWith('(?i)')) ? 'gi' : 'g');
    const pieces: string[] = [];
    let end = 0;
    for (const found of text.matchAll(pattern)) {
      if (!found[0]) continue;
      pieces.push(text.slice(end, found.index), found[0]);
      end = found.index + found[0].length;
    }
    return [...pieces, text.slice(end)];
  } catch {
    return [text];
  }
}

function Text({ text, words }: { text: string; words: Words }) {
  const pieces = marked(text, words);
  return <>{pieces.map((piece, i) => (i % 2 ? <mark key={i}>{piece}</mark> : piece))}</>;
}

/** Where a line comes from, in a word. */
export const placeOf = (labels: Record<string, string>): string =>
  labels.pod ?? labels.unit ?? labels.filename?.split('/').at(-1) ?? labels.service_name ?? labels.job ?? '';

export type OnField = (name: string, value: string, isEqual: boolean, parser?: Parser) => void;

function FieldRow({ name, value, parser, onField }: { name: string; value: string; parser?: Parser; onField: OnField }) {
  return (
    <div class="field">
      <dt>{name}</dt>
      <dd>
        <button type="button" class="bare" aria-label={`Only ${name} ${value}`} title="only lines with this" onClick={() => onField(name, value, true, parser)}>+</button>
        <button type="button" class="bare" aria-label={`Without ${name} ${value}`} title="without these" onClick={() => onField(name, value, false, parser)}>−</button>
        <span>{value}</span>
      </dd>
    </div>
  );
}

function Details({ line, onField }: { line: Line; onField: OnField }) {
  const [context, setContext] = useState(false);
  const fields = fieldsOf(line.text).filter(({ name }) => !(name in line.labels));
  const here = linkTo('explore', { q: undefined, range: undefined, from: String(line.at - 60_000), to: String(line.at + 60_000) });
  return (
    <div class="details">
      <div class="bar">
        <button type="button" aria-pressed={context} onClick={() => setContext(!context)}>Lines around it</button>
        <button type="button" onClick={() => setParams({ q2: metricsFor(line.labels) }, 'step')}>Metrics of its origin</button>
        <button type="button" onClick={() => void navigator.clipboard?.writeText(line.text)}>Copy</button>
        <a class="button" href={here} onClick={(event) => (event.preventDefault(), setParams({ from: String(line.at - 60_000), to: String(line.at + 60_000), range: undefined }, 'step'))}>This minute</a>
      </div>
      {context && <Context line={line} />}
      <dl>
        {Object.entries(line.labels).map(([name, value]) => <FieldRow key={name} name={name} value={value} onField={onField} />)}
        {fields.map((field) => <FieldRow key={field.name} {...field} onField={onField} />)}
      </dl>
    </div>
  );
}

interface Props {
  line: Line;
  words: Words;
  pretty: boolean;
  open: boolean;
  selected: boolean;
  onOpen: () => void;
  onField: OnField;
}

export function LogLine({ line, words, pretty, open, selected, onOpen, onField }: Props) {
  const level = line.labels.level ?? line.labels.detected_level ?? '';
  const object = pretty ? jsonOf(line.text) : undefined;
  const text = object ? JSON.stringify(object, null, 2) : line.text;
  return (
    <div class={`line ${selected ? 'selected' : ''}`} style={{ '--level': levelColour(level) ?? 'transparent' }}>
      <button type="button" class="text" aria-expanded={open} onClick={onOpen}>
        <time>{clock(line.at)}</time>
        <span class="place" title={line.labels.filename}>{placeOf(line.labels)}</span>
        <span class="content"><Text text={text} words={words} /></span>
      </button>
      {open && <Details line={line} onField={onField} />}
    </div>
  );
}
