// A list of any length of which only what is in view is in the page. Rows have the height of their content: until one was
// seen, an estimate stands in, and when heights above the view change, the view stays where it is.

import type { ComponentChild } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

/** Pixels rendered beyond the view, on both sides. */
const MARGIN = 400;
/** Nearer than this to the end counts as being there. */
const NEAR_END = 24;

interface Props<T> {
  items: T[];
  keyOf: (item: T, index: number) => string | number;
  render: (item: T, index: number) => ComponentChild;
  /** Pixels of a row not yet seen. */
  estimate: number;
  label: string;
  class?: string;
  /** Stays at the end while items are added there, unless somebody scrolled away. */
  follow?: boolean;
  onTop?: () => void;
  /** Called with whether the end is in view. */
  onEnd?: (isAtEnd: boolean) => void;
  /** No higher than its rows. */
  fit?: boolean;
  /** The row to bring into view. */
  focus?: string | number;
}

/** Where rows begin, and behind the last one where the list ends. */
function offsetsOf<T>(props: Props<T>, heights: Map<string | number, number>): Float64Array {
  const offsets = new Float64Array(props.items.length + 1);
  props.items.forEach((item, i) => {
    offsets[i + 1] = offsets[i]! + (heights.get(props.keyOf(item, i)) ?? props.estimate);
  });
  return offsets;
}

/** The row at this height. */
export function rowAt(offsets: Float64Array, y: number): number {
  let [low, high] = [0, Math.max(0, offsets.length - 2)];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (offsets[middle]! <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

const rowsOf = (box: HTMLElement | null): HTMLElement[] => [...(box?.querySelectorAll<HTMLElement>(':scope > div > [data-key]') ?? [])];

export function VirtualList<T>(props: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string | number, number>());
  const [view, setView] = useState({ top: 0, height: 600 });
  const [turn, setTurn] = useState(0);
  const atEnd = useRef(true);
  const latest = useRef(props);
  latest.current = props;
  /** The first row in view and how far it is scrolled out. */
  const anchor = useRef<{ key: string | number; into: number } | undefined>(undefined);
  const offsets = useMemo(() => offsetsOf(props, heights.current), [props.items, turn]);
  const total = offsets[props.items.length]!;
  const first = rowAt(offsets, view.top - MARGIN);
  const last = Math.min(props.items.length, rowAt(offsets, view.top + view.height + MARGIN) + 1);

  const remember = (element: HTMLElement) => {
    const row = rowAt(offsets, element.scrollTop);
    const item = props.items[row];
    anchor.current = item === undefined ? undefined : { key: props.keyOf(item, row), into: element.scrollTop - offsets[row]! };
  };
  const onScroll = () => {
    const element = box.current!;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END;
    if (isAtEnd !== atEnd.current) props.onEnd?.(isAtEnd);
    atEnd.current = isAtEnd;
    remember(element);
    setView({ top: element.scrollTop, height: element.clientHeight });
    if (element.scrollTop < MARGIN / 2) props.onTop?.();
  };

  // Rows in the page tell their height, also when their content grows later.
  const measure = () => {
    let changed = false;
    for (const row of rowsOf(box.current)) {
      const item = latest.current.items[Number(row.dataset.key)];
      if (item === undefined) continue;
      const key = latest.current.keyOf(item, Number(row.dataset.key));
      const height = row.offsetHeight;
      if (height > 0 && heights.current.get(key) !== height) {
        heights.current.set(key, height);
        changed = true;
      }
    }
    if (changed) setTurn((turn) => turn + 1);
  };
  useLayoutEffect(measure);
  useEffect(() => {
    const observer = new ResizeObserver(measure);
    rowsOf(box.current).forEach((row) => observer.observe(row));
    return () => observer.disconnect();
  }, [first, last, props.items]);
  // What was in view stays in view when rows come or grow above it.
  useLayoutEffect(() => {
    const element = box.current!;
    if (props.follow && atEnd.current) {
      element.scrollTop = element.scrollHeight;
      return;
    }
    const kept = anchor.current;
    if (!kept) return;
    const row = props.items.findIndex((item, i) => props.keyOf(item, i) === kept.key);
    const wanted = row < 0 ? element.scrollTop : offsets[row]! + kept.into;
    if (Math.abs(wanted - element.scrollTop) > 1) element.scrollTop = wanted;
  }, [props.items, total]);
  useEffect(() => {
    const element = box.current!;
    const observer = new ResizeObserver(() => setView({ top: element.scrollTop, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const row = props.focus === undefined ? -1 : props.items.findIndex((item, i) => props.keyOf(item, i) === props.focus);
    const element = box.current!;
    if (row < 0) return;
    const [top, bottom] = [offsets[row]!, offsets[row + 1]!];
    if (top < element.scrollTop) element.scrollTop = top;
    else if (bottom > element.scrollTop + element.clientHeight) element.scrollTop = bottom - element.clientHeight;
  }, [props.focus]);

  const rows = [];
  for (let i = first; i < last; i += 1) {
    const item = props.items[i]!;
    rows.push(
      <div key={props.keyOf(item, i)} data-key={i} class="row" role="listitem" style={{ transform: `translateY(${offsets[i]}px)` }}>
        {props.render(item, i)}
      </div>,
    );
  }
  return (
    <div ref={box} class={`virtual ${props.class ?? ''}`} style={props.fit ? { maxHeight: `${total + 2}px` } : undefined} onScroll={onScroll} role="list" aria-label={props.label} tabIndex={0}>
      <div style={{ height: `${total}px` }} role="presentation">{rows}</div>
    </div>
  );
}
