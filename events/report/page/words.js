// Words and numbers for people.

const VERDICT_WORDS = {
  delivered: 'delivered', 'left-node': 'left the node', terminated: 'terminated', 'in-flight': 'in flight', incomplete: 'incomplete',
};
const VERDICT_SIGNS = {delivered: '✓', 'left-node': '↗', terminated: '✕', 'in-flight': '…', incomplete: '?'};
const WHERE_WORDS = {
  ipvs: 'IPVS', ip: 'IP', icmp: 'ICMP', socket: 'the socket layer', queue: 'a queue', neighbour: 'neighbour resolution',
  forward: 'forwarding', bridge: 'the bridge', device: 'a device', policy: 'a policy',
};

const number = n => n.toLocaleString('en-US');
const plural = (n, noun) => number(n) + ' ' + noun + (n === 1 ? '' : 's');
const stackWords = n => n + (n === 1 ? ' stack' : ' stacks');
const whereWords = w => WHERE_WORDS[w] || w;
const spaced = reason => reason.replaceAll('-', ' ');

function percent(n, of) {
  const p = of ? 100 * n / of : 0;
  if (n === of || p >= 99.95) return n === of ? '100 %' : '> 99.9 %';
  return (p >= 10 ? p.toFixed(0) : p >= 0.1 ? p.toFixed(1) : '< 0.1') + ' %';
}

// lapse is a number of ns in few characters.
function lapse(ns) {
  if (ns < 0) return '−' + lapse(-ns);
  if (ns < 1e3) return ns + ' ns';
  if (ns < 1e4) return (ns / 1e3).toFixed(1) + ' µs';
  if (ns < 1e6) return Math.floor(ns / 1e3) + ' µs';
  if (ns < 1e9) return (ns / 1e6).toFixed(1) + ' ms';
  return (ns / 1e9).toFixed(2) + ' s';
}

// instant reads a time of the data: ms since 1970 and the ns below.
function instant(text) {
  return text ? {ms: Date.parse(text.slice(0, 19) + 'Z'), ns: Number(text.slice(20, 29))} : null;
}

const base = instant(D.base) || {ms: 0, ns: 0};

// clock is the time of day of a moment, in ns since the base.
function clock(ns) {
  const sum = base.ns + ns;
  const seconds = Math.floor(sum / 1e9);
  const micros = Math.floor((sum - seconds * 1e9) / 1e3);
  return new Date(base.ms + seconds * 1e3).toISOString().slice(11, 19) + '.' + String(micros).padStart(6, '0');
}

function day(ns) {
  return new Date(base.ms + Math.floor((base.ns + ns) / 1e9) * 1e3).toISOString().slice(0, 10);
}

function addressText(e) {
  if (!e.ip) return 'unknown';
  if (!e.port) return e.ip;
  return (e.ip.includes(':') ? '[' + e.ip + ']' : e.ip) + ':' + e.port;
}

// nameText is what an endpoint is called, without its address.
function nameText(e) {
  return [namesText(e), processText(e)].filter(Boolean).join(', ');
}

// namesText is what an address is called.
function namesText(e) {
  const names = [e.pod, e.service && 'svc ' + e.service, e.node && 'node ' + e.node].filter(Boolean);
  return (names.length && e.stale ? [...names, 'perhaps no longer'] : names).join(', ');
}

// natNames are the names of the end that a translation changed: before, and since.
function natNames(n) {
  const dnat = n.kind === 'dnat';
  return [dnat ? namesText({service: n.service, stale: n.stale}) : '', namesText({...n, service: dnat ? '' : n.service})];
}

function processText(e) {
  return e.process ? e.process + (e.pid ? ' ' + e.pid : '') : '';
}

// endText is an endpoint with its names behind it, less loud.
function endText(e) {
  const names = nameText(e);
  return el('span', {class: 'end'}, el('span', {class: 'mono'}, addressText(e)), names && el('span', {class: 'muted'}, ' ' + names));
}

// natHead names a translation: who changed which end. Masquerading is conntrack's.
function natHead(n) {
  if (n.masquerade) return n.kind.toUpperCase() + ` (masquerade${n.mark && `, mark ${n.mark}`})`;
  return n.kind.toUpperCase() + (n.by && n.by !== 'unknown' ? ' by ' + (n.by === 'ipvs' ? 'IPVS' : n.by) : '');
}

// visitText is a namespace with its pod, where that is not its name.
const visitText = v => v.name + (v.pod && v.pod !== v.name ? ` (${v.pod})` : '');

// changed keeps of a translation the end that it changed.
function changed(n) {
  const [fromSrc, fromDst] = n.from.split('→'), [toSrc, toDst] = n.to.split('→');
  if (fromDst !== undefined && toDst !== undefined) {
    if (fromSrc === toSrc && fromDst !== toDst) return [fromDst, toDst];
    if (fromDst === toDst && fromSrc !== toSrc) return [fromSrc, toSrc];
  }
  return [n.from, n.to];
}

const natText = n => natHead(n) + ': ' + changed(n).map((end, i) => end + (natNames(n)[i] && ` (${natNames(n)[i]})`)).join(' → ');

// headline says what a path is about.
function headline(g) {
  if (g.other) return 'Other paths, ' + VERDICT_WORDS[g.verdict] + (g.where && g.verdict !== 'delivered' ? ' in ' + whereWords(g.where) : '') + (g.reason ? ': ' + spaced(g.reason) : '');
  if (g.same) return g.summary;
  const last = g.visits[g.visits.length - 1];
  let s = stackWords(g.stacks) + ', ' + VERDICT_WORDS[g.verdict];
  if (g.verdict === 'delivered' && last) s += ' to ' + last.name;
  if (g.verdict === 'left-node' && last && last.devices.length) s = stackWords(g.stacks) + ', left ' + last.name + ' by ' + last.devices[last.devices.length - 1];
  if (g.verdict === 'terminated') s += ' in ' + whereWords(g.where);
  return s + (g.reason ? ': ' + spaced(g.reason) : '');
}

// chain is the data link of a path in one line.
function chain(g) {
  const nodes = new Set(g.visits.filter(v => v.kind === 'node').map(v => v.name));
  const parts = [];
  for (const v of g.visits) {
    if (v.kind === 'network') { parts.push('[' + v.name + ']'); continue; }
    const prefix = v.kind === 'node' && nodes.size === 1 ? '' : v.name + ' ';
    for (const d of v.devices) parts.push(prefix + d);
    if (!v.devices.length) parts.push(v.name);
  }
  return parts.map((d, i) => i ? (d === parts[i - 1] ? ' ↩ ' : ' → ') + d : d).join('');
}

// whoWords says between whom the packets of some rows went, if it is one pair.
function whoWords(rows) {
  const pairs = new Set();
  for (const r of rows) {
    const s = endpoints[R.src[r]], d = endpoints[R.dst[r]];
    pairs.add(sideText(s, s.port >= d.port) + ' → ' + sideText(d, d.port > s.port));
    if (pairs.size > 99) return 'more than 99 pairs';
  }
  return pairs.size === 1 ? [...pairs][0] : pairs.size + ' pairs of sender and receiver';
}

// sideText is an end with its name; a client's port differs with each connection.
function sideText(e, client) {
  const name = e.pod || e.service || (e.node && 'node ' + e.node);
  return addressText(client ? {...e, port: 0} : e) + (name ? ' (' + name + ')' : '');
}

const badge = verdict => el('span', {class: 'badge v-' + verdict}, el('span', {'aria-hidden': 'true'}, VERDICT_SIGNS[verdict] || '?'), ' ' + (VERDICT_WORDS[verdict] || verdict));
