// What was asked before, in this browser: the last ones, and those with a star.

export interface Asked {
  text: string;
  starred: boolean;
}

const KEY = 'history';
const MAX_KEPT = 60;

export function readHistory(): Asked[] {
  try {
    const all = JSON.parse(localStorage.getItem(KEY) ?? '[]') as unknown;
    return Array.isArray(all) ? all.filter((one): one is Asked => typeof (one as Asked)?.text === 'string') : [];
  } catch {
    return [];
  }
}

/** The newest first, each once; what has a star stays, whatever its age. */
export function remembered(all: Asked[], text: string): Asked[] {
  const old = all.find((one) => one.text === text);
  const next = [{ text, starred: old?.starred ?? false }, ...all.filter((one) => one.text !== text)];
  let plain = 0;
  return next.filter((one) => one.starred || (plain += 1) <= MAX_KEPT);
}

export function addToHistory(text: string): void {
  if (text.trim()) localStorage.setItem(KEY, JSON.stringify(remembered(readHistory(), text.trim())));
}

export function toggleStar(text: string): Asked[] {
  const next = readHistory().map((one) => (one.text === text ? { ...one, starred: !one.starred } : one));
  next.sort((a, b) => Number(b.starred) - Number(a.starred));
  localStorage.setItem(KEY, JSON.stringify(next));
  return next;
}
