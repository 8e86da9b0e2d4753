// The data link diagram: the devices in the order in which the packet met them,
// and below them the addresses that it bore there.

const LINK = {y: 34, gap: 26, band: 66};

// linkDiagram draws the devices of a packet. With nat, its own translations, it
// also shows its addresses.
function linkDiagram(p) {
  const stops = [];
  p.visits.forEach((v, i) => v.devices.forEach(name => stops.push({name, visit: i, w: deviceWidth(name) + 4})));
  if (!stops.length) return el('p', {class: 'muted'}, 'No device is known.');
  const bands = p.detail ? bandsOf(p, stops.length) : [];
  place(stops, bands, p.visits);
  const last = stops[stops.length - 1];
  const lastBand = bands[bands.length - 1];
  const width = Math.max(last.x + last.w + 44, lastBand ? lastBand.x + lastBand.w + 4 : 0);
  const height = bands.length ? 112 : 58;
  const root = svg('svg', {viewBox: `0 0 ${width} ${height}`, width, height, class: 'diagram', role: 'img', 'aria-label': 'Data link: ' + chain(p)});
  root.append(...brackets(stops, p.visits));
  stops.forEach((s, i) => {
    root.append(device(s.x, LINK.y + 10, s.name, false));
    if (i + 1 < stops.length) root.append(arrow(s.x + s.w - 2, stops[i + 1].x - 2, LINK.y + 10, true));
  });
  root.append(lastSign(p, last), ...bands.flatMap(b => drawBand(b)));
  return el('div', {class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Data link diagram'}, root);
}

// bandsOf lists the addresses of a packet with the devices that saw them: from
// (included) to (not included).
function bandsOf(p, count) {
  const icmp = p.words.startsWith('icmp');
  const end = e => icmp ? e.ip : addressText(e);
  const bands = [{from: 0, src: end(p.src), dst: end(p.dst), srcName: namesText(p.src), dstName: namesText(p.dst), by: [], word: p.visits[0].entered === 'device' ? 'as it came in' : 'as sent'}];
  for (const n of p.nat) {
    const [src, dst] = n.to.split('→');
    const before = bands[bands.length - 1];
    let b = before;
    if (n.place > b.from || (n.place === 0 && !b.by.length)) bands.push(b = {from: n.place, by: []});
    const {srcName, dstName} = before, name = natNames(n)[1];
    Object.assign(b, {src, dst: dst === undefined ? '' : dst, srcName, dstName}, n.kind === 'dnat' ? {dstName: name} : {srcName: name});
    b.by.push(n);
  }
  bands.forEach((b, i) => { b.to = i + 1 < bands.length ? bands[i + 1].from : count; });
  return bands.filter((b, i) => b.to > b.from || i + 1 === bands.length);
}

// place sets where devices and bands stand: a band is as wide as its text.
function place(stops, bands, visits) {
  let x = 2;
  const starts = new Map(bands.map(b => [b.from, b]));
  stops.forEach((s, i) => {
    const band = starts.get(i);
    if (band) {
      const before = bands[bands.indexOf(band) - 1];
      if (before) x = Math.max(x, before.x + before.w + 12);
      band.x = x;
      band.w = bandWidth(band);
    }
    if (i && stops[i - 1].visit !== s.visit) {
      const first = stops.findIndex(o => o.visit === stops[i - 1].visit);
      x = Math.max(x, stops[first].x + textWidth(visits[s.visit - 1].name) + 14);
      if (band) band.x = x;
    }
    s.x = x;
    x += s.w + LINK.gap;
  });
  for (const b of bands) {
    if (b.x === undefined) { b.x = x; b.w = bandWidth(b); continue; } // behind the last device
    const end = stops[b.to - 1];
    b.w = Math.max(b.w, end.x + end.w - b.x);
  }
}

const bandWidth = b => 10 + Math.max(endWidth(b.src, b.srcName), endWidth('→ ' + b.dst, b.dstName), textWidth(b.by.map(natHead).join(', ')));
const endWidth = (end, name) => textWidth(end + bandName(name), true);
const bandName = name => name && ' ' + cut(name, 240, true);

function brackets(stops, visits) {
  const out = [];
  visits.forEach((v, i) => {
    const own = stops.filter(s => s.visit === i);
    if (!own.length) return;
    const x1 = own[0].x, x2 = own[own.length - 1].x + own[own.length - 1].w - 4;
    out.push(svg('path', {d: `M${x1} ${LINK.y - 8}V${LINK.y - 12}H${x2}V${LINK.y - 8}`, class: 'bracket ' + v.kind}),
      label(x1, LINK.y - 18, v.name, v.name, {class: 'node-name'}));
  });
  return out;
}

function lastSign(p, last) {
  const x = last.x + last.w + 14, y = LINK.y + 10;
  const kind = {delivered: 'good', terminated: 'bad', 'left-node': 'plain'}[p.verdict] || 'warn';
  return svg('g', {class: 'sign ' + kind}, svg('circle', {cx: x, cy: y, r: 9}), svg('text', {x, y: y + 4, 'text-anchor': 'middle'}, VERDICT_SIGNS[p.verdict] || '?'));
}

// bandLabel stands behind an address.
const bandLabel = name => name && svg('tspan', {class: 'layer'}, bandName(name), svg('title', {}, name));

function drawBand(b) {
  const y = LINK.band;
  const by = b.by.map(natHead).join(', ');
  return [
    svg('path', {d: `M${b.x} ${y - 6}H${b.x + b.w - 4}`, class: 'band' + (b.by.length ? ' nat' : '')}),
    svg('text', {x: b.x, y: y + 10, class: 'mono'}, b.src, bandLabel(b.srcName)),
    svg('text', {x: b.x, y: y + 24, class: 'mono'}, b.dst ? ['→ ' + b.dst, bandLabel(b.dstName)] : ''),
    svg('text', {x: b.x, y: y + 39, class: b.by.length ? 'nat-name' : 'layer'}, by || b.word),
  ];
}
