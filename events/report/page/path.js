// A path: its card in the list, and what it shows when it is opened.

const PAGE = 50; // packets listed at a time

// representative is a packet of the path that is there with its hooks; the
// first one if none is.
function representative(g, rows) {
  const known = details(g.id);
  const row = rows.find(r => known[r]);
  return row === undefined ? (rows.length ? rows[0] : null) : row;
}

// pathCard is a path in the list. rows are its packets that the filters let through.
function pathCard(g, rows, all) {
  const median = g.times[g.times.length - 1][0];
  const shown = filtered() ? rows.length : g.count;
  const bar = el('span', {class: 'share v-' + g.verdict});
  bar.style.width = Math.max(1, 100 * shown / all) + '%';
  const kinds = new Set(g.visits.flatMap(v => v.nat.map(natHead)));
  const button = el('button', {type: 'button', class: 'card', 'aria-expanded': 'false', 'aria-controls': 'p' + g.id, id: 'path-' + g.id, click: () => go({path: state.path === g.id ? null : g.id})},
    badge(g.verdict),
    el('span', {class: 'what'},
      el('span', {class: 'headline'}, headline(g)),
      !g.other && el('span', {class: 'chain mono'}, chain(g)),
      el('span', {class: 'chips'}, !g.other && el('span', {class: 'chip'}, g.proto + (g.reply ? ' reply' : '')), rows.length > 0 && el('span', {class: 'chip'}, whoWords(rows)), [...kinds].map(k => el('span', {class: 'chip nat'}, k)))),
    el('span', {class: 'size'}, el('strong', {}, number(shown)), el('span', {class: 'muted'}, ' ' + percent(shown, all)), el('span', {class: 'bar'}, bar)),
    el('span', {class: 'median'}, el('strong', {}, lapse(median)), el('span', {class: 'muted'}, ' median')));
  return el('article', {class: 'path', 'data-path': g.id}, button, el('div', {class: 'panel', id: 'p' + g.id, hidden: true}));
}

// openPath fills the panel of a path.
function openPath(article, g, rows) {
  const panel = article.querySelector('.panel');
  article.querySelector('.card').setAttribute('aria-expanded', 'true');
  article.classList.add('open');
  panel.hidden = false;
  const row = representative(g, rows);
  const example = row === null ? null : packetOf(row);
  const whole = {...g, visits: g.visits, detail: null, nat: []};
  panel.replaceChildren(...[
    !g.other && el('h3', {}, 'Stacks', el('span', {class: 'muted'}, ` ${stackWords(g.stacks)}` + (g.l3 !== g.stacks ? `, ${g.l3} without what was only bridged` : ''))),
    !g.other && stackDiagram(whole, common(rows, r => processText(endpoints[R.src[r]])), common(rows, r => processText(endpoints[R.dst[r]]))),
    !g.other && el('h3', {}, 'Data link', example && example.detail && el('span', {class: 'muted'}, ' and the addresses on it, of the packet at ', packetLink(row, clock(R.time[row])))),
    !g.other && linkDiagram(example && example.detail ? example : whole),
    el('div', {class: 'columns'}, timesTable(g), el('div', {}, whoTable(rows), natTable(g))),
    packetList(g, rows)].filter(Boolean));
}

// common is the text that all rows share, or how many there are.
function common(rows, text) {
  const seen = new Set();
  for (const r of rows) {
    seen.add(text(r));
    if (seen.size > 20) return 'many processes';
  }
  seen.delete('');
  return seen.size === 0 ? '' : seen.size === 1 ? [...seen][0] : seen.size + ' processes';
}

function timesTable(g) {
  const names = g.other ? [] : g.visits.flatMap((v, i) => i ? [`${g.visits[i - 1].name} → ${v.name}`, 'in ' + v.name] : ['in ' + v.name]);
  names.push('whole');
  const most = Math.max(1, ...g.times.slice(0, -1).map(t => t[1]));
  return el('section', {}, el('h3', {}, 'Times'), el('table', {class: 'times'},
    el('thead', {}, el('tr', {}, ['segment', 'p50', 'p90', 'p99', 'max', ''].map(h => el('th', {scope: 'col', class: h && h !== 'segment' && 'num'}, h)))),
    el('tbody', {}, names.map((name, i) => {
      const t = g.times[i], whole = i === names.length - 1;
      const inner = el('span', {class: 'bar-in'}), outer = el('span', {class: 'bar-out'}, inner);
      outer.style.width = 100 * Math.min(1, t[1] / most) + '%';
      inner.style.width = t[1] ? 100 * t[0] / t[1] + '%' : '0';
      return el('tr', {class: whole && 'sum'}, el('th', {scope: 'row'}, name), t.map(n => el('td', {class: 'num'}, lapse(n))), el('td', {class: 'spark'}, !whole && outer));
    }))),
    el('p', {class: 'muted note'}, 'Bars: p50 within p90.' + (g.count > 4096 ? ' From a sample of at least 2,048 packets.' : '')));
}

// whoTable lists the frequent pairs of sender and receiver.
function whoTable(rows) {
  const counts = new Map();
  for (const r of rows) {
    const s = endpoints[R.src[r]], d = endpoints[R.dst[r]];
    const key = JSON.stringify([sideText(s, s.port >= d.port), sideText(d, d.port > s.port)]);
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  const list = [...counts].sort((a, b) => b[1] - a[1]);
  return el('section', {}, el('h3', {}, 'Who'), el('table', {}, el('tbody', {}, list.slice(0, 8).map(([key, n]) => {
    const [s, d] = JSON.parse(key);
    return el('tr', {}, el('td', {}, s, el('span', {class: 'muted'}, ' → '), d), el('td', {class: 'num'}, number(n)));
  }))), list.length > 8 && el('p', {class: 'muted note'}, `and ${plural(list.length - 8, 'other pair')}`));
}

function natTable(g) {
  const list = g.visits.flatMap(v => v.nat.map(n => ({...n, name: v.name})));
  if (!list.length) return null;
  return el('section', {}, el('h3', {}, 'Translations'), el('table', {}, el('tbody', {}, list.slice(0, 16).map(n =>
    el('tr', {}, el('td', {}, natHead(n), el('span', {class: 'muted'}, ' in ' + n.name)), el('td', {}, natEnds(n)), el('td', {class: 'num'}, number(n.count)))))),
    (list.length > 16 || g.rest > 0) && el('p', {class: 'muted note'}, 'and others'));
}

// natEnds are both sides of a translation, with their names.
function natEnds(n) {
  const [was, is] = natNames(n);
  return [[n.from, was], [n.to, is]].flatMap(([end, name], i) => [i > 0 && ' → ', el('span', {class: 'mono'}, end.replace('→', ' → ')), name && el('span', {class: 'muted'}, ' ' + name)]);
}

// packetList lists packets, some at a time.
function packetList(g, rows) {
  let order = 'time', upTo = PAGE;
  const known = details(g.id);
  const body = el('tbody'), more = el('button', {type: 'button', click: () => { upTo += 4 * PAGE; draw(); }}), box = el('section', {class: 'packets'});
  const sorts = [['time', 'in order of time'], ['took', 'slowest first']];
  const choose = el('select', {'aria-label': 'Order', change: e => { order = e.target.value; draw(); }}, sorts.map(([value, text]) => el('option', {value}, text)));
  function draw() {
    const sorted = [...rows].sort((a, b) => order === 'took' ? R.took[b] - R.took[a] : R.time[a] - R.time[b]);
    body.replaceChildren(...sorted.slice(0, upTo).map(r => packetRow(r, known[r])));
    more.hidden = sorted.length <= upTo;
    more.textContent = `Show more of ${number(sorted.length)}`;
  }
  const bare = rows.reduce((n, r) => n + (known[r] ? 0 : 1), 0);
  box.append(el('div', {class: 'list-head'}, el('h3', {}, 'Packets'), choose),
    el('table', {class: 'list'}, el('thead', {}, el('tr', {}, ['time (UTC)', 'packet', 'from → to', 'took', ''].map(h => el('th', {scope: 'col'}, h)))), body), more,
    el('p', {class: 'muted note'}, [
      g.count > rows.length && !filtered() && `${number(g.count - rows.length)} more are counted, but not listed.`,
      bare > 0 && `${number(bare)} of the listed are here without their hooks, to bound the size of this file (marked ○).`,
    ].filter(Boolean).join(' ')));
  draw();
  return box;
}

function packetRow(r, known) {
  return el('tr', {class: 'click', click: () => go({t: R.id[r]})},
    el('td', {class: 'mono'}, packetLink(r, clock(R.time[r]))),
    el('td', {}, word(R.words[r]), el('span', {class: 'muted'}, ` ${number(R.length[r])} B`)),
    el('td', {}, endText(endpoints[R.src[r]]), el('span', {class: 'muted'}, ' → '), endText(endpoints[R.dst[r]])),
    el('td', {class: 'num'}, lapse(R.took[r])),
    el('td', {class: 'muted', title: known ? 'with its hooks' : 'without its hooks'}, known ? '●' : '○'));
}

const packetLink = (row, text) => el('a', {href: hashOf({...state, t: R.id[row]}), click: e => { e.preventDefault(); e.stopPropagation(); go({t: R.id[row]}); }}, text);
