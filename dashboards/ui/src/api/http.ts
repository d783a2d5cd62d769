// Requests and their errors. Addresses are relative, so that the page works behind any path.

import { tenant } from '../state/route';

export type Labels = Record<string, string>;

/** Unix seconds. */
export interface Range {
  start: number;
  end: number;
  step: number;
}

export class ApiError extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

/** The server's own words of what went wrong: Prometheus and Alertmanager answer JSON, Loki plain text. */
export function errorText(body: string, fallback: string): string {
  const text = body.trim();
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said === 'string') return said;
    const { error, message } = said as { error?: string; message?: string };
    return error ?? message ?? text;
  } catch {
    return text || fallback;
  }
}

/** What a part answers that this process may not have: a store runs without an alert router, too. */
export async function ifThere<T>(answer: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await answer;
  } catch (failure) {
    if (failure instanceof ApiError && failure.status === 404) return otherwise;
    throw failure;
  }
}

/** What tells the server whose data is meant. A websocket takes it as a parameter. */
export const TENANT_HEADER = 'X-Scope-OrgID';

export function tenantHeaders(): Labels {
  const name = tenant();
  return name ? { [TENANT_HEADER]: name } : {};
}

export async function request(path: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(path, { ...init, headers: { ...tenantHeaders(), ...(init?.headers as Labels) } });
  if (response.ok) return response;
  throw new ApiError(errorText(await response.text(), `${response.status} ${response.statusText}`), response.status);
}

export type Params = Record<string, string | number | string[] | undefined>;

export function encode(params: Params): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== undefined) query.set(name, String(value));
  }
  return query;
}

export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const query = encode(params).toString();
  const response = await request(query ? `${path}?${query}` : path, { signal });
  return response.json() as Promise<T>;
}

export interface Answer<T> {
  data: T;
  warnings?: string[];
  infos?: string[];
}
