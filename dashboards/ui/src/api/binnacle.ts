// What only Binnacle tells: the bus and the files that the agent follows.

import { get } from './http';

export interface Topic {
  topic: string;
  start: number;
  end: number;
  retained_bytes: number;
  refused: number;
}
export interface TailedFile {
  path: string;
  format: string;
  offset: number;
  size: number;
}
export interface Status {
  version: string;
  node: string;
  uptime_seconds: number;
  bus: Topic[];
  files: TailedFile[];
}

export const status = (): Promise<Status> => get('binnacle/v1/status');
