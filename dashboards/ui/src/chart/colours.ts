// Colours of series: by what a name means where it means something, else by turn.

const COLOURS = ['#2f7fb5', '#d9822b', '#3a9d6e', '#8a63c4', '#c2526f', '#3aa6b0', '#a98a2f', '#6b7a89', '#5566c4', '#7d8b2f', '#b56a9c', '#4f8f5a'];

const MEANING: Record<string, string> = {
  fatal: '#8f1d1d', critical: '#a32020', error: '#d64545', warning: '#d99a2b', warn: '#d99a2b', info: '#2f7fb5', notice: '#3aa6b0',
  debug: '#8a97a3', trace: '#aab4bd', none: '#b4bfc7',
  idle: '#b4bfc7', user: '#2f7fb5', system: '#d9822b', iowait: '#a98a2f', softirq: '#8a63c4', irq: '#3aa6b0', steal: '#c2526f', nice: '#3a9d6e',
  firing: '#d64545', pending: '#d99a2b',
};

export const colourOf = (name: string, i: number): string => MEANING[name] ?? COLOURS[i % COLOURS.length]!;

/** The level's own colour, for a mark beside a line. */
export const levelColour = (level: string): string | undefined => MEANING[level];
