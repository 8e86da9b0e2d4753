// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stackhop/stackhop/events"
)

// columns is the width of the text; what is longer is broken between words.
const columns = 100

// maxNameWidth is how long the names of devices are at most, unless they are
// full of what must be escaped.
const maxNameWidth = 15 + 2*indent

// indent is the width of a branch of the tree.
const indent = 3

// item is a line of the tree and what hangs below it.
type item struct {
	text  string
	hang  int // how far its further lines are indented
	below []item
}

// WriteText writes a tree for each namespace.
func (t *Topology) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for i := range t.Namespaces {
		if i > 0 {
			b.WriteByte('\n')
		}
		ns := t.Namespaces[i].item()
		ns.write(&b, "", "")
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (n *Namespace) item() item {
	out := item{text: n.label(), hang: indent}
	if n.Name != "" || n.Pod != "" {
		out.text += fmt.Sprintf(" (netns %d)", n.Inode)
	}
	if n.Kind != events.KindNode && n.Node != "" {
		out.text += " on " + events.Safe(n.Node)
	}
	if len(n.Devices) > 0 {
		ports := map[string][]*Device{}
		for i := range n.Devices {
			d := &n.Devices[i]
			ports[d.Master] = append(ports[d.Master], d)
		}
		out.below = append(out.below, n.deviceItems(ports, "", deviceWidth(n.Devices))...)
	}
	if shown := n.shownRoutes(); len(shown) > 0 {
		routes := item{text: plural(len(shown), "route"), hang: indent}
		for i := range shown {
			routes.below = append(routes.below, item{text: shown[i].text(), hang: indent})
		}
		out.below = append(out.below, routes)
	}
	if len(n.Services) > 0 {
		out.below = append(out.below, n.serviceItem())
	}
	if text := n.settings(); text != "" {
		out.below = append(out.below, item{text: text, hang: indent})
	}
	return out
}

// deviceItems are the ports of a master, each with its own ports below it; of
// "" those that are nobody's. It takes them out of ports, so that no device is
// below itself.
func (n *Namespace) deviceItems(ports map[string][]*Device, master string, width int) []item {
	list := ports[master]
	delete(ports, master)
	var out []item
	for _, d := range list {
		text := fmt.Sprintf("%-*s  %s", width, events.Safe(d.Name), strings.Join(append(d.traits(), d.links(n.Inode)...), ", "))
		if list := d.addresses(shownAddresses); len(list) > 0 {
			text += ", " + strings.Join(list, " ")
		}
		out = append(out, item{text, width + 2, n.deviceItems(ports, d.Name, max(0, width-indent))})
	}
	return out
}

// deviceWidth is the longest name of a device, so that what follows is aligned.
func deviceWidth(devices []Device) int {
	width := 0
	for i := range devices {
		n := utf8.RuneCountInString(events.Safe(devices[i].Name))
		if devices[i].Master != "" {
			n += indent
		}
		width = max(width, n)
	}
	return min(width, maxNameWidth)
}

func (n *Namespace) serviceItem() item {
	out := item{text: plural(len(n.Services), "IPVS service"), hang: indent}
	for i := range n.Services {
		s := &n.Services[i]
		one := item{text: s.text(), hang: indent}
		for j := range s.Destinations {
			one.below = append(one.below, item{text: s.Destinations[j].text(), hang: indent})
		}
		out.below = append(out.below, one)
	}
	return out
}

// settings are those of a namespace that forwards; to others they make no difference.
func (n *Namespace) settings() string {
	if len(n.Services) == 0 && n.Sysctls["net.ipv4.ip_forward"] != "1" && n.Sysctls["net.ipv6.conf.all.forwarding"] != "1" && n.Kind != events.KindNode {
		return ""
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.Sysctls)) {
		out = append(out, events.Safe(name)+"="+events.Safe(n.Sysctls[name]))
	}
	return strings.Join(out, " ")
}

// write writes an item behind first, and all its further lines behind rest.
func (it *item) write(b *bytes.Buffer, first, rest string) {
	lines := wrap(it.text, columns-utf8.RuneCountInString(first), it.hang)
	stem := ""
	if len(it.below) > 0 {
		stem = "│"
	}
	b.WriteString(first + lines[0] + "\n")
	for _, line := range lines[1:] {
		fmt.Fprintf(b, "%s%-*s%s\n", rest, it.hang, stem, line)
	}
	for i := range it.below {
		if i < len(it.below)-1 {
			it.below[i].write(b, rest+"├─ ", rest+"│  ")
		} else {
			it.below[i].write(b, rest+"└─ ", rest+"   ")
		}
	}
}

// wrap breaks text into lines of at most width characters, all but the first of
// which are to be indented by hang. A word that is longer stands alone.
func wrap(text string, width, hang int) []string {
	var lines []string
	line, room := "", width
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room {
			lines = append(lines, strings.TrimRight(line, " "))
			line, room = word, width-hang
			continue
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
