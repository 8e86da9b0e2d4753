// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// Sizes of the drawing, in pixels. Text is monospaced, so that its width is known.
const (
	margin   = 16
	gap      = 10  // between boxes
	line     = 14  // height of a line of text
	char     = 6.7 // width of a character
	padding  = 6   // around text in a box
	lane     = 7   // between lines that run side by side
	podWidth = 196
	minBlock = 540 // width of a node with tables or pods
	barSize  = 2*line + 2*padding
)

// rect is where something is drawn.
type rect struct{ x, y, w, h int }

func (r rect) middle() int { return r.x + r.w/2 }

// place names a device.
type place struct{ netns, ifindex uint32 }

// drawing collects the picture in three layers: what lies behind the lines,
// the lines, and what covers them.
type drawing struct {
	t                  *Topology
	back, lines, front bytes.Buffer
	shown              map[uint32]bool // the namespaces that are in it
	at                 map[place]rect  // where devices are
	joined             map[place]bool  // those whose line to their peer is drawn
	frames             []frame
	tops               map[uint32]int // of the frames, by namespace
	crossed            map[uint32][]span
}

// WriteSVG draws the topology: each node with its bridges and, below it, its
// pods, the networks between nodes above them, services and routes in tables.
// The picture is the same for the same topology.
func (t *Topology) WriteSVG(w io.Writer) error {
	d := &drawing{
		t: t, shown: map[uint32]bool{}, at: map[place]rect{}, joined: map[place]bool{},
		tops: map[uint32]int{}, crossed: map[uint32][]span{},
	}
	for i := range t.Namespaces {
		d.shown[t.Namespaces[i].Inode] = true
	}
	width, height := d.draw()
	title := escape("stackhop topology of " + events.Safe(t.Node))
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d">`+"\n", width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", title, style)
	fmt.Fprintf(&b, `<rect class="page" width="%d" height="%d"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text class="head" x="%d" y="%d">%s</text>`+"\n", margin, margin+line, title)
	fmt.Fprintf(&b, `<text class="dim" x="%d" y="%d">%s</text>`+"\n", margin, margin+2*line+2, t.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	b.Write(d.back.Bytes())
	b.Write(d.lines.Bytes())
	b.Write(d.front.Bytes())
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

const style = `
text{font:11px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#1f2933;white-space:pre}
.head{font-weight:bold;font-size:14px}.name{font-weight:bold}.dim{fill:#5f6c7b}.bad{fill:#b3261e}
.page{fill:#fff}rect{stroke-width:1;rx:3px}
.node{fill:#f3f5f7;stroke:#8494a5}.network{fill:#f5effa;stroke:#9a7cb5}.pod{fill:#e6f0fb;stroke:#6492c4}
.device{fill:#fff;stroke:#8494a5}.down{fill:#fafafa;stroke:#b8c2cc;stroke-dasharray:3 2}
.bridge{fill:#def0e2;stroke:#559b68}.table{fill:#fdf8ea;stroke:#c4ad66}
.node-name,.network-name,.pod-name{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}
.node-name{stroke:#f3f5f7}.network-name{stroke:#f5effa}.pod-name{stroke:#e6f0fb}
path{fill:none;stroke:#6b7b8c;stroke-width:1.3}.up{stroke:#1f2933}circle{fill:#6b7b8c}
`

// box draws a box with lines of text, the first of which is its name, and a
// longer text that is shown when one points at it.
func (d *drawing) box(r rect, class, title string, lines []string) {
	fmt.Fprintf(&d.front, `<g><title>%s</title><rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, escape(title), class, r.x, r.y, r.w, r.h)
	for i, text := range lines {
		look := "dim"
		if i == 0 {
			look = "name"
		}
		d.text(&d.front, look, r.x+padding, r.y+padding+line*i, r.w-2*padding, text)
	}
	d.front.WriteString("</g>\n")
}

// text writes a line whose top is at y, cut to a width.
func (d *drawing) text(b *bytes.Buffer, class string, x, y, width int, text string) {
	fmt.Fprintf(b, `<text class="%s" x="%d" y="%d">%s</text>`, class, x, y+line-4, escape(cut(text, int(float64(width)/char))))
}

// cut shortens text to n characters.
func cut(text string, n int) string {
	if r := []rune(text); len(r) > max(n, 1) {
		return string(r[:max(n, 1)-1]) + "…"
	}
	return text
}

// textWidth is the width of the longest line, between two bounds.
func textWidth(lines []string, least, most int) int {
	n := 0
	for _, l := range lines {
		n = max(n, len([]rune(l)))
	}
	return min(max(int(float64(n)*char)+2*padding+2, least), most)
}

// escape makes text fit for XML. What does not print is escaped before it gets
// here, by events.Safe.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// curve joins two devices, from the lower side of one to the upper side of the
// other, or from above to above if they stand side by side. Into a frame it goes
// straight, so that its name can keep clear of it.
func (d *drawing) curve(a, b rect, inA, inB uint32) {
	if a.y > b.y {
		a, b, inA, inB = b, a, inB, inA
	}
	from, to := a.y+a.h, b.y
	if from > to {
		peak := a.y - 4*gap
		fmt.Fprintf(&d.lines, `<path d="M%d %dC%d %d %d %d %d %d"/>`+"\n", a.middle(), a.y, a.middle(), peak, b.middle(), peak, b.middle(), to)
		d.cross(inA, a.middle(), b.middle())
		d.cross(inB, a.middle(), b.middle())
		return
	}
	straight := ""
	if top, framed := d.tops[inB]; framed && from <= top && top < to {
		straight, to = fmt.Sprintf("V%d", b.y), top
		d.cross(inB, b.middle(), b.middle())
	}
	bend := (from + to) / 2
	fmt.Fprintf(&d.lines, `<path d="M%d %dC%d %d %d %d %d %d%s"/>`+"\n", a.middle(), from, a.middle(), bend, b.middle(), bend, b.middle(), to, straight)
}

// joinPeers draws the veth pairs that have no line yet.
func (d *drawing) joinPeers() {
	for i := range d.t.Namespaces {
		ns := &d.t.Namespaces[i]
		for j := range ns.Devices {
			own, peer := place{ns.Inode, ns.Devices[j].Ifindex}, ns.Devices[j].Peer
			if peer == nil || d.joined[own] {
				continue
			}
			other := place{peer.Netns, peer.Ifindex}
			a, ok1 := d.at[own]
			b, ok2 := d.at[other]
			if ok1 && ok2 {
				d.joined[own], d.joined[other] = true, true
				d.curve(a, b, own.netns, other.netns)
			}
		}
	}
}

// boxLines are the lines in the box of a device of a namespace, title what is
// behind it.
func (dev *Device) boxLines(netns uint32) (lines []string, title string) {
	traits := dev.traits()
	kind := strings.Join(append(traits[:2:2], traits[3:]...), ", ") // without the MTU
	lines = []string{events.Safe(dev.Name), kind}
	lines = append(lines, dev.links(netns)...)
	if a := dev.address(); a != "" {
		lines = append(lines, a)
	}
	all := []string{events.Safe(dev.Name) + ": " + strings.Join(traits, ", ")}
	if dev.MAC != "" {
		all = append(all, events.Safe(dev.MAC))
	}
	all = append(all, dev.links(netns)...)
	all = append(all, dev.addresses(4*shownAddresses)...)
	return lines, strings.Join(all, "\n")
}

// devices draws boxes for devices, in rows as wide as r, and returns the height
// of all of them. With dry nothing is drawn.
func (d *drawing) devices(netns uint32, list []*Device, r rect, dry bool) (width, height int) {
	x, y, tall := r.x, r.y, 0
	for _, dev := range list {
		lines, title := dev.boxLines(netns)
		box := rect{x, y, textWidth(lines, 90, 270), len(lines)*line + 2*padding}
		if x > r.x && x+box.w > r.x+r.w {
			x, y, tall = r.x, y+tall+gap, 0
			box.x, box.y = x, y
		}
		x, tall = x+box.w+gap, max(tall, box.h)
		width, height = max(width, box.x+box.w-r.x), y+tall-r.y
		if dry {
			continue
		}
		class := "device"
		if dev.condition() == "down" {
			class = "down"
		}
		d.at[place{netns, dev.Ifindex}] = box
		d.box(box, class, title, lines)
	}
	return width, height
}

// rankUplink puts the devices that lead out of the node first.
func rankUplink(a, b *Device) int {
	order := func(d *Device) int {
		switch {
		case d.Kind == "":
			return 0
		case d.Peer != nil:
			return 1
		}
		return 2
	}
	return cmp.Or(order(a)-order(b), cmp.Compare(a.Ifindex, b.Ifindex))
}
