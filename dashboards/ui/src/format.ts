// Numbers and instants for people.

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(value: number): string {
  if (!Number.isFinite(value)) return '–';
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < BINARY.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${BINARY[unit]}`;
}

export const bytesPerSecond = (value: number): string => `${bytes(value)}/s`;

export const percent = (value: number): string =>
  Number.isFinite(value) ? `${value.toFixed(value < 10 ? 1 : 0)} %` : '–';

export function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const magnitude = Math.abs(value);
  if (magnitude >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (magnitude >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (magnitude >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return String(Number(value.toPrecision(4)));
}

export function duration(seconds: number): string {
  const units: [number, string][] = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
  const parts: string[] = [];
  let rest = Math.floor(seconds);
  for (const [size, name] of units) {
    if (rest >= size && parts.length < 2) {
      parts.push(`${Math.floor(rest / size)}${name}`);
      rest %= size;
    }
  }
  return parts.join(' ') || '0s';
}

/** `HH:MM:SS.mmm` in the viewer's zone, with the date where it is not today's. */
export function clock(ms: number, now = Date.now()): string {
  const at = new Date(ms);
  const pad = (n: number, width = 2) => String(n).padStart(width, '0');
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
  const isToday = new Date(now).toDateString() === at.toDateString();
  return isToday ? time : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}

/** A label for a time axis that spans `spanS` seconds: the date where days matter, seconds where they do. */
export function tick(seconds: number, spanS: number): string {
  const at = new Date(seconds * 1000);
  const pad = (n: number) => String(n).padStart(2, '0');
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
  if (spanS <= 300) return `${time}:${pad(at.getSeconds())}`;
  return spanS > 86_400 ? `${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}` : time;
}

export function labelText(labels: Record<string, string>, hidden: string[] = []): string {
  const name = labels.__name__ ?? '';
  const rest = Object.entries(labels)
    .filter(([key]) => key !== '__name__' && !hidden.includes(key))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return rest.length || !name ? `${name}{${rest.join(', ')}}` : name;
}
