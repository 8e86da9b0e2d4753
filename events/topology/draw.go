// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// maxPodDevices is how many devices the box of a pod shows.
const maxPodDevices = 4

// drawHosts draws the layers above the nodes, in rows as wide as the nodes are
// together, and returns the width and where the nodes may begin.
func (d *drawing) drawHosts(layers [][]*Namespace, top, width int) (int, int) {
	type sized struct {
		ns  *Namespace
		box rect
	}
	for _, layer := range layers {
		var rows [][]sized
		x := width // the first begins a row
		for _, ns := range layer {
			w, h := d.devices(ns.Inode, shownDevices(ns), rect{w: max(width, minBlock) - 2*gap}, true)
			box := rect{w: max(w, textSize(ns.label())) + 2*gap, h: h + line + 2*gap + padding}
			if x += 2*gap + box.w; x > width {
				rows, x = append(rows, nil), box.w
			}
			last := &rows[len(rows)-1]
			*last = append(*last, sized{ns, box})
		}
		for _, row := range rows {
			wide, tall := -2*gap, 0
			for _, s := range row {
				wide, tall = wide+s.box.w+2*gap, max(tall, s.box.h)
			}
			x := margin + max(0, (width-wide)/2)
			for _, s := range row {
				s.box.x, s.box.y, s.box.h = x, top, tall
				d.drawHost(s.ns, s.box)
				x += s.box.w + 2*gap
				width = max(width, x-margin)
			}
			top += tall + 4*gap
		}
	}
	return width, top
}

func (d *drawing) drawHost(ns *Namespace, box rect) {
	class := "network"
	if ns.Kind != events.KindNetwork {
		class = "pod"
	}
	d.frame(ns, box, class)
	d.devices(ns.Inode, shownDevices(ns), rect{box.x + gap, box.y + padding + line + gap, box.w - 2*gap, 0}, false)
}

// frame is the box of a namespace in which devices are drawn.
type frame struct {
	ns    *Namespace
	box   rect
	class string
}

// span is where lines cross the upper edge of a frame, from the left of the picture.
type span struct{ left, right int }

// frame draws the box of a namespace but for its name, which keeps clear of lines:
// they are drawn later.
func (d *drawing) frame(ns *Namespace, box rect, class string) {
	fmt.Fprintf(&d.back, `<g><title>%s</title><rect class="%s" x="%d" y="%d" width="%d" height="%d"/></g>`+"\n", escape(ns.title()), class, box.x, box.y, box.w, box.h)
	d.frames = append(d.frames, frame{ns, box, class})
	d.tops[ns.Inode] = box.y
}

// cross notes that something is drawn through the upper edge of a frame.
func (d *drawing) cross(netns uint32, x1, x2 int) {
	d.crossed[netns] = append(d.crossed[netns], span{min(x1, x2), max(x1, x2)})
}

// drawNames writes the names of the frames.
func (d *drawing) drawNames() {
	for _, f := range d.frames {
		name := f.ns.label()
		x := f.clear(d.crossed[f.ns.Inode], textSize(name))
		d.text(&d.front, "name "+f.class+"-name", x, f.box.y+padding, f.box.x+f.box.w-gap-x, name)
		d.front.WriteByte('\n')
	}
}

// clear is where a text so wide has no line behind it; at the left, where it keeps
// its distance from lines, if there is no such place.
func (f *frame) clear(lines []span, width int) int {
	left, right := f.box.x+gap, f.box.x+f.box.w-gap
	slices.SortFunc(lines, func(a, b span) int { return cmp.Compare(a.left, b.left) })
	x := left
	for _, l := range lines {
		if x+width <= l.left-padding {
			return x
		}
		x = max(x, l.right+padding)
	}
	if x+width <= right {
		return x
	}
	return left
}

func textSize(text string) int { return int(math.Ceil(float64(len([]rune(text))) * char)) }

// title is what is shown when one points at a namespace.
func (n *Namespace) title() string {
	out := fmt.Sprintf("%s\nnetns %d\n%s, %s, %s", n.label(), n.Inode, plural(len(n.Devices), "device"), plural(len(n.shownRoutes()), "route"), plural(len(n.Services), "IPVS service"))
	if text := n.settings(); text != "" {
		out += "\n" + strings.ReplaceAll(text, " ", "\n")
	}
	return out
}

func (d *drawing) drawBlock(b *block, x, y int) {
	d.frame(b.node, rect{x, y, b.width, b.nodeHeight}, "node")
	uplinksTop := y + padding + line + gap
	d.devices(b.node.Inode, b.uplinks, rect{x + gap, uplinksTop, b.width - 2*gap, 0}, false)
	for _, dev := range b.uplinks {
		leaves := dev.Kind == "" || dev.Peer != nil && !d.shown[dev.Peer.Netns]
		if box := d.at[place{b.node.Inode, dev.Ifindex}]; leaves && box.y == uplinksTop {
			fmt.Fprintf(&d.lines, `<path class="up" d="M%d %dV%d"/>`+"\n", box.middle(), box.y, y-gap)
			d.cross(b.node.Inode, box.middle(), box.middle())
		}
	}
	bottom := y + b.nodeHeight
	podsTop := bottom + 3*gap
	lanes := b.laneXs(x)
	b.drawBars(d, x, uplinksTop+b.uplinkHeight+2*gap)
	bars := d.barsOf(b)
	rowTop := make([]int, b.rows)
	below := podsTop
	for r, h := range b.podHeights {
		rowTop[r] = below
		below += h + gap
	}
	for i, pod := range b.pods {
		d.drawPod(pod, rect{x + b.columnX(i/b.rows), rowTop[i%b.rows], podWidth, b.podHeights[i%b.rows]})
	}
	for i, p := range b.ports {
		box := d.at[p.peer]
		from := bottom
		if bar, ok := bars[p.device.Master]; ok {
			from = bar.y + bar.h
		}
		enter := box.y + padding + line + line/2 + min(p.nth, maxPodDevices-1)*2*line
		path := fmt.Sprintf("M%d %dV%dH%d", lanes[i], from, enter, box.x+box.w)
		d.connect(path, lanes[i], from, events.Safe(p.device.Name)+" ↔ "+p.device.Peer.label(b.node.Inode))
		d.joined[place{b.node.Inode, p.device.Ifindex}], d.joined[p.peer] = true, true
	}
	for _, t := range b.tables {
		below += 2 * gap
		d.drawTable(t, x, below, b.width)
		below += t.height()
	}
}

// laneXs are where the lines of the ports run, from the left of the picture.
func (b *block) laneXs(x int) []int {
	used := make([]int, b.columns)
	out := make([]int, len(b.ports))
	for i, p := range b.ports {
		c := p.pod / b.rows
		out[i] = x + b.columnX(c) + podWidth + gap + lane*used[c]
		used[c]++
	}
	return out
}

// drawBars draws the bridges, each as wide as the node: the lines of its ports
// leave it downwards, behind those below it.
func (b *block) drawBars(d *drawing, x, y int) {
	for _, bridge := range b.bridges {
		lines, title := bridge.boxLines(b.node.Inode)
		bar := rect{x + gap, y, b.width - 2*gap, barSize}
		d.at[place{b.node.Inode, bridge.Ifindex}] = bar
		d.box(bar, "bridge", title, []string{lines[0] + "  " + lines[1], strings.Join(lines[2:], " ")})
		for _, dev := range b.uplinks {
			if box := d.at[place{b.node.Inode, dev.Ifindex}]; dev.Master == bridge.Name {
				d.connect(fmt.Sprintf("M%d %dV%d", box.middle(), box.y+box.h, bar.y), box.middle(), bar.y, events.Safe(dev.Name))
			}
		}
		y += barSize + gap
	}
}

// connect draws a line with a dot where it begins or ends.
func (d *drawing) connect(path string, x, y int, title string) {
	fmt.Fprintf(&d.lines, `<path d="%s"><title>%s</title></path>`+"\n", path, escape(title))
	fmt.Fprintf(&d.front, `<circle cx="%d" cy="%d" r="2.5"/>`+"\n", x, y)
}

// barsOf is where a block's bridges are, by name.
func (d *drawing) barsOf(b *block) map[string]rect {
	out := map[string]rect{}
	for _, bridge := range b.bridges {
		out[bridge.Name] = d.at[place{b.node.Inode, bridge.Ifindex}]
	}
	return out
}

func podLines(pod *Namespace) []string {
	name := pod.label()
	if pod.Pod != "" {
		name = events.Safe(pod.Pod)
	}
	out := []string{name}
	devices := shownDevices(pod)
	for i, dev := range devices {
		if i == maxPodDevices {
			return append(out, fmt.Sprintf("… %d more", len(devices)-i))
		}
		kind := "↔"
		if dev.Peer == nil {
			kind = strings.Join(append([]string{events.Safe(dev.Kind)}, dev.links(pod.Inode)...), " ")
		} else if dev.Peer.Netns != 0 {
			kind += " " + events.Safe(dev.Peer.Device)
		}
		out = append(out, events.Safe(dev.Name)+" "+dev.address(), "  "+kind)
	}
	return out
}

func podHeight(pod *Namespace) int { return len(podLines(pod))*line + 2*padding }

func (d *drawing) drawPod(pod *Namespace, box rect) {
	titles := []string{pod.title()}
	for _, dev := range shownDevices(pod) {
		_, title := dev.boxLines(pod.Inode)
		titles = append(titles, title)
		d.at[place{pod.Inode, dev.Ifindex}] = box
	}
	d.box(box, "pod", strings.Join(titles, "\n"), podLines(pod))
}
