// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// WriteDot writes a graph for Graphviz: a cluster for each namespace, a node
// for each device and for the services, an edge for each veth pair, port and
// lower device.
func (t *Topology) WriteDot(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "graph stackhop {\n  label=%s; labelloc=t; rankdir=TB;\n", dotString("stackhop topology of "+events.Safe(t.Node)))
	b.WriteString("  node [shape=box, fontname=monospace, fontsize=10]; graph [fontname=\"sans-serif\", fontsize=12, style=rounded];\n")
	for i := range t.Namespaces {
		t.Namespaces[i].dotCluster(&b)
	}
	at := make(map[uint32]int, len(t.Namespaces))
	for i := range t.Namespaces {
		at[t.Namespaces[i].Inode] = i
	}
	for i := range t.Namespaces {
		t.Namespaces[i].dotEdges(&b, at)
	}
	b.WriteString("}\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (n *Namespace) dotCluster(b *bytes.Buffer) {
	fmt.Fprintf(b, "  subgraph cluster_%d {\n    label=%s;\n", n.Inode, dotString(n.label()))
	for i := range n.Devices {
		d := &n.Devices[i]
		if d.Kind == "loopback" && len(n.Devices) > 1 {
			continue
		}
		fmt.Fprintf(b, "    %s [label=%s", dotID(n.Inode, d.Ifindex), dotString(d.dotLines()...))
		if d.Kind == "bridge" {
			b.WriteString(", style=bold")
		}
		b.WriteString("];\n")
	}
	if len(n.Services) > 0 {
		var lines []string
		for i := range n.Services {
			s := &n.Services[i]
			lines = append(lines, s.text())
			for j := range s.Destinations {
				lines = append(lines, "  "+s.Destinations[j].text())
			}
		}
		fmt.Fprintf(b, "    \"%d ipvs\" [shape=note, label=%s];\n", n.Inode, dotString(lines...))
	}
	b.WriteString("  }\n")
}

func (d *Device) dotLines() []string {
	return append([]string{events.Safe(d.Name), strings.Join(d.traits(), ", ")}, d.addresses(shownAddresses)...)
}

// dotEdges writes those edges of a namespace whose other end is in the graph;
// at is where each namespace stands. One edge for a veth pair is enough.
func (n *Namespace) dotEdges(b *bytes.Buffer, at map[uint32]int) {
	masters := map[string]uint32{}
	for i := range n.Devices {
		masters[n.Devices[i].Name] = n.Devices[i].Ifindex
	}
	for i := range n.Devices {
		d := &n.Devices[i]
		own := dotID(n.Inode, d.Ifindex)
		if d.Master != "" {
			fmt.Fprintf(b, "  %s -- %s [style=bold];\n", dotID(n.Inode, masters[d.Master]), own)
		}
		if d.Lower.within(at) {
			fmt.Fprintf(b, "  %s -- %s [style=dashed];\n", dotID(d.Lower.Netns, d.Lower.Ifindex), own)
		}
		if p := d.Peer; p.within(at) && cmp.Or(cmp.Compare(at[p.Netns], at[n.Inode]), cmp.Compare(p.Ifindex, d.Ifindex)) > 0 {
			fmt.Fprintf(b, "  %s -- %s;\n", own, dotID(p.Netns, p.Ifindex))
		}
	}
}

// within says whether there is an end, and its namespace is among those shown.
func (e *End) within(at map[uint32]int) bool {
	if e == nil || e.Device == "" {
		return false
	}
	_, ok := at[e.Netns]
	return ok
}

func dotID(netns, ifindex uint32) string { return fmt.Sprintf(`"%d/%d"`, netns, ifindex) }

// dotString is a quoted label. Each line but an only one ends in \l, which
// aligns it to the left.
func dotString(lines ...string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, line := range lines {
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(line))
		if len(lines) > 1 {
			b.WriteString(`\l`)
		}
	}
	b.WriteByte('"')
	return b.String()
}
