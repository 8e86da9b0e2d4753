// One packet, down to the hooks.

function openPacket(row) {
  const p = packetOf(row), d = p.detail, box = byId('packet');
  box.replaceChildren(...[
    el('div', {class: 'dialog-head'},
      el('div', {}, el('p', {class: 'eyebrow'}, badge(p.verdict), ' ', el('span', {class: 'mono'}, R.id[row]), ' ', day(R.time[row]) + ' ' + clock(R.time[row]) + ' UTC'),
        el('h2', {id: 'packet-title'}, p.words + ' ', endText(p.src), ' → ', endText(p.dst)),
        el('p', {class: 'summary'}, p.summary)),
      el('button', {type: 'button', class: 'close', 'aria-label': 'Close', click: () => go({t: null})}, '✕')),
    remarks(p), ...why(p),
    el('h3', {}, 'Stacks'), stackDiagram(p, processText(p.src), processText(p.dst)),
    el('h3', {}, 'Data link'), linkDiagram(p),
    d ? el('div', {}, el('h3', {}, 'Hooks'), hookTables(p)) : el('p', {class: 'notice'}, 'The hooks of this packet are not in this file; its path and its times are. To see them, replay the recording with its ID.'),
    flowTable(p)].filter(Boolean));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
}

// remarks are what only some packets have.
function remarks(p) {
  const d = p.detail || {}, list = [];
  const say = (head, ...rest) => list.push(el('li', {}, el('strong', {}, head + ' '), ...rest));
  const because = R.because[p.row];
  if (because) say('Because of', other(because));
  for (const link of R.therefore[p.row] || []) say('Therefore', other(link));
  if (d.kr || d.loc) say('Drop reason', [word(d.kr || 0), d.loc ? 'at ' + word(d.loc) : ''].filter(Boolean).join(' '));
  if (d.svc) say('Service', d.svc.slice(0, 2).map(word).join(': '));
  if (d.svc && d.svc[2]) say('Endpoints', word(d.svc[2]));
  for (const n of d.n || []) if (!d.svc || n !== d.svc[1]) say('Note', word(n));
  if (d.ct) say('Conntrack', `${word(d.ct[2])}: `, el('span', {class: 'mono'}, word(d.ct[0])), ', reply ', el('span', {class: 'mono'}, word(d.ct[1])));
  if (d.lost) say('Lost', plural(d.lost, 'event') + ' of this packet');
  if (d.no) say('Not observed', d.no.map(word).join(', '));
  return list.length ? el('ul', {class: 'remarks'}, list) : null;
}

// why is the chain of evidence, with what to check next.
function why(p) {
  const d = p.detail || {}, list = d.f || [];
  if (!d.why || !d.why.length) return [];
  const rows = d.why.map(([ns, netns, what, hook, decides]) => el('tr', {class: decides ? 'decides' : ''}, el('td', {class: 'num'}, '+' + lapse(ns)), el('td', {}, word(netns)), el('td', {}, word(what)), el('td', {class: 'mono muted'}, word(hook))));
  return [el('h3', {}, 'Why'),
    el('div', {class: 'scroll'}, el('table', {class: 'why'}, el('thead', {}, el('tr', {}, ['at', 'where', 'what', 'hook'].map((h, i) => el('th', {scope: 'col', class: i === 0 && 'num'}, h)))), el('tbody', {}, rows))),
    ...list.map(([reason, title, advice, unless]) => el('ul', {class: 'remarks'},
      el('li', {}, el('strong', {}, 'Finding '), el('span', {class: 'mono'}, word(reason)), ': ' + word(title)),
      el('li', {}, el('strong', {}, 'Check next '), word(advice)),
      el('li', {}, el('strong', {}, 'It is not this if '), word(unless))))];
}

// other is a packet that this one is linked to.
function other([id, text]) {
  const words = word(text) || 'packet ' + id, row = rowOfID.get(id);
  return row === undefined ? el('span', {}, words, el('span', {class: 'muted'}, ` (${id}, not listed here)`)) : packetLink(row, words);
}

function hookTables(p) {
  let before = 0;
  return p.visits.filter(v => v.hooks).map(v => {
    const rows = [], left = [...v.nat];
    for (const h of v.hooks) {
      rows.push(el('tr', {}, el('td', {class: 'num'}, lapse(h.ns)), el('td', {class: 'num muted'}, '+' + lapse(h.ns - before)), el('td', {class: 'mono'}, h.hook), el('td', {class: 'mono'}, h.device), el('td', {}, h.detail)));
      before = h.ns;
      while (left.length && left[0].hook === h.hook && left[0].ns === h.ns) rows.push(natRow(left.shift()));
    }
    rows.push(...left.map(natRow));
    return el('div', {class: 'scroll'}, el('table', {class: 'hooks'}, el('caption', {}, el('strong', {}, visitText(v)), el('span', {class: 'muted'}, ` ${v.kind} (netns ${v.netns}) ${stackWords(v.stacks)}, ${viaWords(v)}`)),
      el('thead', {}, el('tr', {}, ['at', 'since last', 'hook', 'device', 'detail'].map((h, i) => el('th', {scope: 'col', class: i < 2 && 'num'}, h)))), el('tbody', {}, rows)));
  });
}

const natRow = n => el('tr', {class: 'nat'}, el('td'), el('td'), el('td', {colspan: '3'}, '╰ ', natText(n)));

const ENTERED = {socket: 'from a socket', device: 'from a device', kernel: 'made by the kernel', unknown: 'beginning not seen'};
const LEFT = {socket: 'to a socket', device: 'to a device', terminated: 'terminated here', unknown: 'end not seen'};
const viaWords = v => `${ENTERED[v.entered] || v.entered}, ${LEFT[v.left] || v.left}` + (v.bridged ? ', bridged' + (v.bridgeNF ? ' with netfilter' : '') : '');

// flowTable shows both directions of the connection side by side.
function flowTable(p) {
  const all = rowsOfFlow(R.flow[p.row]), at = all.indexOf(p.row);
  if (all.length < 2) return null;
  const lo = Math.max(0, at - 20), near = all.slice(lo, at + 21);
  const cell = r => el('td', {class: r === p.row ? 'this' : ''}, packetLink(r, word(R.words[r])), ' ', el('span', {class: 'v-text v-' + groups[R.group[r]].verdict}, VERDICT_SIGNS[groups[R.group[r]].verdict]), el('span', {class: 'muted'}, ' ' + headline(groups[R.group[r]])));
  return el('div', {}, el('h3', {}, 'Flow', el('span', {class: 'muted'}, ` ${plural(all.length, 'packet')}` + (near.length < all.length ? `, ${near.length} around this one` : ''))),
    el('div', {class: 'scroll'}, el('table', {class: 'flow'}, el('thead', {}, el('tr', {}, ['time', 'request →', '← reply'].map(h => el('th', {scope: 'col'}, h)))),
      el('tbody', {}, near.map(r => {
        const reply = word(R.words[r]).endsWith(' reply');
        return el('tr', {}, el('td', {class: 'mono'}, '+' + lapse(R.time[r] - R.time[all[0]])), reply ? el('td') : cell(r), reply ? cell(r) : el('td'));
      })))));
}
