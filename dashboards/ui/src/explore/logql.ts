// LogQL for the editor: what is coloured how, and what may come next.

import { type Completion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { LanguageSupport, StreamLanguage, type StringStream } from '@codemirror/language';
import { RANGE_FUNCTIONS, blanked } from './language';

const AGGREGATIONS = ['sum', 'avg', 'min', 'max', 'count', 'stddev', 'stdvar', 'topk', 'bottomk', 'sort', 'sort_desc'];
const STAGES: [string, string][] = [
  ['json', 'fields of a JSON line'], ['logfmt', 'fields of a key=value line'], ['pattern', 'fields by a pattern: `<ip> - <_>`'],
  ['regexp', 'fields by named groups'], ['unpack', 'a packed line'], ['line_format', 'the line anew'], ['label_format', 'labels anew'],
  ['unwrap', 'a label as the number to count'], ['decolorize', 'without ANSI colours'], ['drop', 'without labels'], ['keep', 'with these labels only'],
];
const FILTERS: [string, string][] = [
  ['|= ', 'the line contains'], ['!= ', 'does not contain'], ['|~ ', 'matches the regular expression'], ['!~ ', 'does not match'], ['|> ', 'matches the pattern'],
];
const KEYWORDS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right', 'bool', 'offset', 'and', 'or', 'unless']);
const CALLS = new Set([...RANGE_FUNCTIONS, ...AGGREGATIONS, 'label_replace', 'vector', 'duration', 'bytes']);
const NAMED_STAGES = new Set(STAGES.map(([name]) => name));

function token(stream: StringStream): string | null {
  if (stream.eatSpace()) return null;
  if (stream.match(/^#.*/)) return 'comment';
  if (stream.match(/^"(?:[^"\\]|\\.)*"?/) || stream.match(/^`[^`]*`?/)) return 'string';
  if (stream.match(/^\d+(\.\d+)?(ns|us|ms|[smhdwy]|[KMGT]i?B|B)(\d+(ms|[smhdwy]))*/)) return 'number';
  if (stream.match(/^\d+(\.\d+)?/)) return 'number';
  if (stream.match(/^(\|[=~>]?|![=~>]|=~|==?|[<>]=?|[-+*/%^])/)) return 'operator';
  const word = stream.match(/^[a-zA-Z_][a-zA-Z0-9_]*/) as RegExpMatchArray | null;
  if (!word) {
    stream.next();
    return 'punctuation';
  }
  if (KEYWORDS.has(word[0]) || NAMED_STAGES.has(word[0])) return 'keyword';
  if (CALLS.has(word[0])) return 'variableName.function';
  return 'propertyName';
}

/** What a cursor stands in. */
export type Place =
  | { kind: 'name'; from: number; selector: string }
  | { kind: 'value'; from: number; name: string; selector: string }
  | { kind: 'stage'; from: number }
  | { kind: 'call'; from: number };

/** Where the cursor at the end of `before` stands. */
export function placeOf(before: string): Place {
  const word = /[a-zA-Z_][a-zA-Z0-9_]*$/.exec(before)?.[0] ?? '';
  const from = before.length - word.length;
  const inString = /([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)$/.exec(before);
  const code = blanked(before);
  const open = code.lastIndexOf('{');
  const isInside = open >= 0 && code.indexOf('}', open) < 0;
  // The matchers before the one being typed narrow what is offered.
  const inner = before.slice(open + 1);
  const selector = isInside && inner.includes(',') ? `{${inner.slice(0, inner.lastIndexOf(','))}}` : '';
  if (isInside && inString) return { kind: 'value', from: before.length - inString[2]!.length, name: inString[1]!, selector };
  if (isInside) return { kind: 'name', from, selector };
  if (/[}"`\w]\s*(\|\s*)?\w*$/.test(before) && code.includes('}')) return { kind: 'stage', from };
  return { kind: 'call', from };
}

/** Where real names and values come from. */
export interface LabelSource {
  names: () => Promise<string[]>;
  values: (name: string, selector?: string) => Promise<string[]>;
}

const KEPT_MS = 30_000;
const MAX_KEPT = 200;

/** The same source, not asked for the same again while one types. */
function remembering(source: LabelSource): LabelSource {
  const known = new Map<string, { at: number; found: Promise<string[]> }>();
  const cached = (key: string, load: () => Promise<string[]>): Promise<string[]> => {
    const old = known.get(key);
    if (old && Date.now() - old.at < KEPT_MS) return old.found;
    if (known.size > MAX_KEPT) known.clear();
    const found = load().catch(() => []);
    known.set(key, { at: Date.now(), found });
    return found;
  };
  return {
    names: () => cached('', source.names),
    values: (name, selector) => cached(`${name} ${selector ?? ''}`, () => source.values(name, selector)),
  };
}

const option = (label: string, type: string, detail?: string, apply?: string): Completion => ({ label, type, detail, apply });

async function options(place: Place, before: string, source: LabelSource): Promise<Completion[]> {
  switch (place.kind) {
    case 'name':
      return (await source.names()).map((name) => option(name, 'property', undefined, `${name}="`));
    case 'value': {
      const values = await source.values(place.name, place.selector || undefined);
      return values.map((value) => option(value, 'text', undefined, `${value.replace(/["\\]/g, '\\$&')}"`));
    }
    case 'stage': {
      const isAfterPipe = /\|\s*\w*$/.test(before);
      const stages = STAGES.map(([name, detail]) => option(name, 'keyword', detail, isAfterPipe ? `${name} ` : `| ${name} `));
      return isAfterPipe ? stages : [...FILTERS.map(([text, detail]) => option(text.trim(), 'operator', detail, text)), ...stages];
    }
    case 'call':
      return [
        option('{', 'operator', 'choose lines', '{'),
        ...RANGE_FUNCTIONS.map((name) => option(name, 'function', 'over time', `${name}(`)),
        ...AGGREGATIONS.map((name) => option(name, 'function', 'aggregation', `${name} `)),
      ];
  }
}

async function complete(context: CompletionContext, source: LabelSource): Promise<CompletionResult | null> {
  const before = context.state.doc.sliceString(0, context.pos);
  const place = placeOf(before);
  const isTyping = /[\w{"|=~,]$/.test(before);
  if (!context.explicit && !isTyping) return null;
  return { from: place.from, options: await options(place, before, source), validFor: place.kind === 'value' ? /^[^"]*$/ : /^\w*$/ };
}

export function logql(labels: LabelSource): LanguageSupport {
  const source = remembering(labels);
  const language = StreamLanguage.define({ name: 'logql', token, languageData: { closeBrackets: { brackets: ['(', '{', '[', '"', '`'] } } });
  return new LanguageSupport(language, language.data.of({ autocomplete: (context: CompletionContext) => complete(context, source) }));
}
