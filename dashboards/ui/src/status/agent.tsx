// The files that the agent follows: how far it is, and what is most behind.

import { useMemo, useState } from 'preact/hooks';
import { type TailedFile, status } from '../api/binnacle';
import { VirtualList } from '../parts/list';
import { bytes, count } from '../state/format';
import { useLoad } from '../state/load';
import { linkTo } from '../state/route';

const behindOf = (file: TailedFile): number => Math.max(0, file.size - file.offset);

export function Agent() {
  const { data, error } = useLoad(status, [], 5_000);
  const [words, setWords] = useState('');
  const files = useMemo(() => {
    const found = (data?.files ?? []).filter(({ path }) => path.includes(words));
    return found.sort((a, b) => behindOf(b) - behindOf(a) || (a.path < b.path ? -1 : 1));
  }, [data, words]);
  const row = (file: TailedFile) => (
    <div class="file">
      <a href={linkTo('explore', { q: `{filename=${JSON.stringify(file.path)}}` })}><code>{file.path}</code></a>
      <span class="badge">{file.format}</span>
      <span class="number">{bytes(file.offset)} read</span>
      <span class={`number ${behindOf(file) > 1 << 20 ? 'error' : 'note'}`}>{behindOf(file) ? `${bytes(behindOf(file))} behind` : 'up to date'}</span>
    </div>
  );
  return (
    <>
      {error && <p class="error" role="alert">{error}</p>}
      <div class="card table">
        <div class="bar">
          <strong>{count(files.length)} files</strong>
          <input type="search" class="grow" placeholder="find a file" aria-label="Find files" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
        </div>
        <VirtualList label="Log files" class="tall" fit items={files} estimate={34} keyOf={({ path }) => path} render={row} />
      </div>
    </>
  );
}
