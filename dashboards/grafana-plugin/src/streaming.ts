// The live tail: a frame that takes what arrives and forgets the oldest.

import { CircularDataFrame, type DataQueryResponse, FieldType, LoadingState } from '@grafana/data';
import { Observable } from 'rxjs';
import { type RawStream, linesFrame } from './frames';
import type { BinnacleQuery } from './types';

const RETRY_MS = 1000;

/** The tail's address: the datasource's own, over a WebSocket. */
export function tailUrl(base: string, expr: string, page: string): string {
  const url = new URL(`${base}/loki/api/v1/tail`, page);
  url.protocol = url.protocol.replace('http', 'ws');
  url.searchParams.set('query', expr);
  return url.toString();
}

export function tail(query: BinnacleQuery, base: string, capacity: number): Observable<DataQueryResponse> {
  return new Observable((subscriber) => {
    const frame = new CircularDataFrame({ capacity });
    frame.refId = query.refId;
    frame.name = query.refId;
    frame.meta = linesFrame(query, [], capacity).meta;
    const types: [string, FieldType][] = [['timestamp', FieldType.time], ['body', FieldType.string], ['severity', FieldType.string], ['id', FieldType.string], ['labels', FieldType.other]];
    for (const [name, type] of types) frame.addField({ name, type, config: {} });
    let socket: WebSocket;
    let retry = 0;
    const open = () => {
      socket = new WebSocket(tailUrl(base, query.expr, window.location.href));
      socket.onmessage = (event) => {
        const { streams = [] } = JSON.parse(event.data as string) as { streams?: RawStream[] };
        const arrived = linesFrame(query, streams, capacity);
        // Oldest first: the newest is what a full frame keeps.
        for (let i = arrived.length - 1; i >= 0; i -= 1) frame.add(Object.fromEntries(arrived.fields.map(({ name, values }) => [name, values[i]])));
        subscriber.next({ data: [frame], key: `tail-${query.refId}`, state: LoadingState.Streaming });
      };
      socket.onclose = () => {
        if (!subscriber.closed) retry = window.setTimeout(open, RETRY_MS);
      };
    };
    open();
    return () => {
      clearTimeout(retry);
      socket.close();
    };
  });
}
