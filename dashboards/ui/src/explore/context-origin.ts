// Where a line comes from, as a selector.

/** Not part of it. */
const NOT_ORIGIN = new Set(['level', 'detected_level', 'truncated']);

/** The stream of a line; labels that a query's pipeline made are none of it. */
export function originOf(labels: Record<string, string>, known: string[]): string {
  const own = Object.entries(labels).filter(([name]) => known.includes(name) && !NOT_ORIGIN.has(name));
  return `{${own.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(', ')}}`;
}
