// Parts of a view, each with its own address.

import { linkTo } from '../state/route';

export function Tabs({ view, active, tabs }: { view: string; active: string; tabs: [string, string, number?][] }) {
  return (
    <nav class="tabs" aria-label="Parts of this view">
      {tabs.map(([id, title, count]) => (
        <a key={id} href={linkTo(view, { tab: id })} aria-current={id === active ? 'page' : undefined}>
          {title}
          {count ? <span class="count">{count}</span> : null}
        </a>
      ))}
    </nav>
  );
}
