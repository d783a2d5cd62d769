// A button that opens a panel beneath it. Escape and a click elsewhere close it.

import type { ComponentChild } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

interface Props {
  label: string;
  button: ComponentChild;
  children: (close: () => void) => ComponentChild;
  onOpen?: () => void;
  class?: string;
}

export function Menu({ label, button, children, onOpen, class: name }: Props) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      const isOutside = event instanceof MouseEvent && !box.current?.contains(event.target as Node);
      const isEscape = event instanceof KeyboardEvent && event.key === 'Escape';
      if (isOutside || isEscape) setOpen(false);
    };
    addEventListener('mousedown', close);
    addEventListener('keydown', close);
    return () => {
      removeEventListener('mousedown', close);
      removeEventListener('keydown', close);
    };
  }, [open]);
  const toggle = () => {
    if (!open) onOpen?.();
    setOpen(!open);
  };
  return (
    <div class={`menu ${name ?? ''}`} ref={box}>
      <button type="button" title={label} aria-expanded={open} aria-haspopup="true" onClick={toggle}>{button}</button>
      {open && <div class="panel card" role="group" aria-label={label}>{children(() => setOpen(false))}</div>}
    </div>
  );
}
