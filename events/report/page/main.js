// The page as a whole.

function overview() {
  const start = day(D.first), end = day(D.last);
  byId('title').textContent = D.title;
  const nodes = [...new Set(groups.flatMap(g => g.visits.map(v => v.node)))].filter(Boolean);
  byId('subtitle').textContent = D.count ? [
    `${start} ${clock(D.first).slice(0, 12)} to ${end === start ? '' : end + ' '}${clock(D.last).slice(0, 12)} UTC`, plural(D.count, 'packet') + ' on ' + plural(groups.length, 'path'),
    nodes.length ? (nodes.length > 4 ? plural(nodes.length, 'node') : (nodes.length === 1 ? 'node ' : 'nodes ') + nodes.join(', ')) : '',
  ].filter(Boolean).join(' · ') : 'No packet was traced.';
  byId('overview').append(...[tiles(), ...notices(), recordings()].filter(Boolean));
  byId('footer').textContent = ['Times are UTC. This file is complete in itself: it loads nothing and sends nothing.', D.tool, D.made && 'made ' + D.made.slice(0, 19).replace('T', ' ') + ' UTC'].filter(Boolean).join(' · ');
}

// tiles are the verdicts with their counts; each is a filter.
function tiles() {
  const strip = el('div', {class: 'strip', 'aria-hidden': 'true'});
  const list = VERDICTS.map(v => {
    const n = D.verdicts[v] || 0;
    const part = el('span', {class: 'v-' + v});
    part.style.flexGrow = n;
    if (n) strip.append(part);
    const toggle = () => go({verdict: state.verdict.includes(v) ? state.verdict.filter(x => x !== v) : [...state.verdict, v], path: null});
    return el('button', {type: 'button', class: 'tile v-' + v, 'data-verdict': v, 'aria-pressed': 'false', disabled: n === 0, click: toggle},
      el('span', {class: 'tile-name'}, el('span', {'aria-hidden': 'true', class: 'tile-sign'}, VERDICT_SIGNS[v]), ' ' + VERDICT_WORDS[v]),
      el('strong', {}, number(n)), el('span', {class: 'muted'}, n ? percent(n, D.count) : 'none'));
  });
  return el('div', {}, el('div', {class: 'tiles'}, list), strip);
}

// notices say what the page does not show, and what was lost.
function notices() {
  const out = [];
  const lost = new Map();
  for (const r of D.recordings) for (const [stage, n] of Object.entries(r.lost)) if (n) lost.set(stage, (lost.get(stage) || 0) + n);
  const sum = [...lost.values()].reduce((a, b) => a + b, 0);
  if (sum) out.push(el('p', {class: 'notice bad'}, el('strong', {}, plural(sum, 'event') + ' lost: '), [...lost].map(([stage, n]) => `${stage} ${number(n)}`).join(', ') + (D.lost ? `. ${plural(D.lost, 'event')} missing in the packets below; those are incomplete.` : '.')));
  else if (D.lost) out.push(el('p', {class: 'notice bad'}, el('strong', {}, plural(D.lost, 'event') + ' missing'), ' in the packets below; those are incomplete.'));
  for (const w of D.warnings) out.push(el('p', {class: 'notice bad'}, w));
  for (const w of D.remarks) out.push(el('p', {class: 'notice'}, w));
  if (D.listed < D.count) out.push(el('p', {class: 'notice'}, `${number(D.count - D.listed)} of ${number(D.count)} packets are counted in their paths, but not listed: this file is bounded.`));
  return out;
}

function recordings() {
  if (!D.recordings.length) return null;
  return el('details', {class: 'recordings'}, el('summary', {}, plural(D.recordings.length, 'recording'), el('span', {class: 'muted'}, ' ' + D.recordings.map(r => [r.node, r.kernel].filter(Boolean).join(' ') || r.name).join(', '))),
    D.recordings.map(recording));
}

function recording(r) {
  const when = t => t ? t.slice(0, 23).replace('T', ' ') + ' UTC' : '';
  const facts = [['File', r.name], ['Node', r.node], ['Kernel', r.kernel], ['Tool', r.tool], ['Command', r.command], ['Filter', r.filter], ['Only node', r.only_node],
    ['Start', when(r.start)], ['End', when(r.end)], ['Events', r.events ? `${number(r.events)} recorded of ${number(r.matched)} matched, ${plural(r.packets, 'packet')}` : ''],
    ['Lost', Object.entries(r.lost).map(([s, n]) => `${s} ${number(n)}`).join(', ') || (r.events ? 'nothing' : '')],
    ['Not hooked', r.missing.join('; ')], ['Notes', r.notes.join('; ')]];
  return el('div', {class: 'recording'}, el('dl', {}, facts.filter(f => f[1]).map(([k, v]) => [el('dt', {}, k), el('dd', {class: k === 'Command' || k === 'Filter' ? 'mono' : null}, v)])),
    r.tables.map(t => el('table', {}, el('caption', {}, t.title), el('thead', {}, el('tr', {}, t.head.map(h => el('th', {scope: 'col'}, h)))), el('tbody', {}, t.rows.map(row => el('tr', {}, row.map(c => el('td', {class: 'mono'}, c))))))));
}

let listed = ''; // the filters that the list was made for
let rowsByGroup = new Map();

// showList lists the paths that the filters leave: what ended badly first.
function showList() {
  const key = hashOf({...state, path: null, t: null});
  if (listed === key) return;
  listed = key;
  rowsByGroup = new Map(groups.map(g => [g.id, []]));
  const match = matcher();
  let found = 0;
  for (let r = 0; r < R.id.length; r++) if (match(r)) { rowsByGroup.get(R.group[r]).push(r); found++; }
  const size = g => filtered() ? rowsByGroup.get(g.id).length : g.count;
  const list = groups.filter(g => size(g) > 0).sort((a, b) => VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict) || size(b) - size(a));
  const all = filtered() ? Math.max(1, found) : D.count;
  byId('found').textContent = filtered() ? `${plural(found, 'packet')} on ${plural(list.length, 'path')} of ${number(D.listed)} listed on ${number(groups.length)}` : '';
  byId('paths').replaceChildren(...(list.length ? list.slice(0, 500).map(g => pathCard(g, rowsByGroup.get(g.id), all)) : [el('p', {class: 'notice'}, D.count ? 'Nothing fits these filters.' : 'There is nothing to show.')]),
    ...(list.length > 500 ? [el('p', {class: 'notice'}, `${plural(list.length - 500, 'more path')}: filter to see them.`)] : []));
}

function showPath() {
  for (const a of document.querySelectorAll('.path.open')) {
    if (a.dataset.path === String(state.path)) continue;
    a.classList.remove('open');
    a.querySelector('.card').setAttribute('aria-expanded', 'false');
    a.querySelector('.panel').hidden = true;
    a.querySelector('.panel').replaceChildren();
  }
  const article = state.path === null ? null : document.querySelector(`.path[data-path="${state.path}"]`);
  if (!article || article.classList.contains('open')) return;
  openPath(article, groups[state.path], rowsByGroup.get(state.path));
  article.scrollIntoView({block: 'nearest'});
}

function show() {
  readHash();
  showList();
  showFilters();
  showPath();
  const box = byId('packet');
  if (state.t !== null) openPacket(rowOfID.get(state.t));
  else if (box.open) box.close();
}

byId('packet').addEventListener('cancel', e => { e.preventDefault(); go({t: null}); });
byId('packet').addEventListener('click', e => { if (e.target === byId('packet')) go({t: null}); });
byId('print').addEventListener('click', () => print());
const dark = matchMedia('(prefers-color-scheme: dark)');
function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const now = document.documentElement.dataset.theme || (dark.matches ? 'dark' : 'light');
  byId('theme').textContent = now === 'dark' ? 'Light' : 'Dark';
  return now;
}
byId('theme').addEventListener('click', () => showTheme(showTheme() === 'dark' ? 'light' : 'dark'));
showTheme();
addEventListener('hashchange', show);
overview();
filterForm();
show();
