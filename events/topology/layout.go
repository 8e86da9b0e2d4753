// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"math"
	"slices"

	"github.com/stackhop/stackhop/events"
)

// block is a node with its pods.
type block struct {
	node *Namespace
	pods []*Namespace
	// ports are the pairs between the node and its pods, in the order of the
	// lines between them.
	ports   []port
	uplinks []*Device // the node's other devices
	bridges []*Device // those with ports

	rows, columns int
	lanes         []int // lines right of each column of pods
	podHeights    []int // by row
	width, height int
	nodeHeight    int
	uplinkHeight  int
	tables        []table
}

// port is a veth pair between a node and one of its pods.
type port struct {
	device *Device // the node's
	pod    int     // index in pods
	nth    int     // among the pod's devices
	peer   place
}

// draw lays everything out, and returns the size of the picture.
func (d *drawing) draw() (width, height int) {
	blocks, hosts := d.divide()
	for _, b := range blocks {
		b.measure(d)
		width += b.width + 2*gap
	}
	top := margin + 3*line + gap
	width, top = d.drawHosts(d.layers(hosts), top, max(width, minBlock))
	x := margin
	for _, b := range blocks {
		d.drawBlock(b, x, top)
		x += b.width + 2*gap
		height = max(height, b.height)
	}
	d.joinPeers()
	d.drawNames()
	return width + 2*margin, top + height + margin
}

// divide sorts namespaces into nodes with their pods, and others.
func (d *drawing) divide() (blocks []*block, hosts []*Namespace) {
	byName, byInode := map[string]*block{}, map[uint32]*block{}
	for i := range d.t.Namespaces {
		ns := &d.t.Namespaces[i]
		if ns.Kind == events.KindNode {
			b := &block{node: ns}
			blocks = append(blocks, b)
			byName[cmp.Or(ns.Node, ns.Name)], byInode[ns.Inode] = b, b
		}
	}
	for i := range d.t.Namespaces {
		ns := &d.t.Namespaces[i]
		b := byName[ns.Node]
		for j := 0; b == nil && ns.Kind == events.KindPod && j < len(ns.Devices); j++ {
			if peer := ns.Devices[j].Peer; peer != nil {
				b = byInode[peer.Netns]
			}
		}
		switch {
		case ns.Kind == events.KindNode:
		case b != nil:
			b.pods = append(b.pods, ns)
		default:
			hosts = append(hosts, ns)
		}
	}
	return blocks, hosts
}

// measure finds out how large a block is.
func (b *block) measure(d *drawing) {
	b.sortPods()
	b.columns = min(len(b.pods), max(6, min(12, int(math.Ceil(math.Sqrt(float64(len(b.pods))))))))
	if b.columns > 0 {
		b.rows = (len(b.pods) + b.columns - 1) / b.columns
		b.columns = (len(b.pods) + b.rows - 1) / b.rows
	}
	b.lanes = make([]int, b.columns)
	b.podHeights = make([]int, b.rows)
	for _, p := range b.ports {
		b.lanes[p.pod/b.rows]++
	}
	for i, pod := range b.pods {
		b.podHeights[i%b.rows] = max(b.podHeights[i%b.rows], podHeight(pod))
	}
	b.width = max(minBlock, b.columnX(b.columns))
	if len(b.pods)+len(b.node.Services)+len(b.node.shownRoutes()) == 0 {
		wide, _ := d.devices(b.node.Inode, b.uplinks, rect{w: minBlock}, true)
		b.width = max(minBlock/3, wide+2*gap)
	}
	inner := b.width - 2*gap
	_, b.uplinkHeight = d.devices(b.node.Inode, b.uplinks, rect{w: inner}, true)
	b.nodeHeight = padding + line + gap + b.uplinkHeight + 2*gap
	b.nodeHeight += len(b.bridges) * (barSize + gap)
	b.height = b.nodeHeight + 3*gap
	for _, h := range b.podHeights {
		b.height += h + gap
	}
	b.tables = tables(b.node, b.width)
	for _, t := range b.tables {
		b.height += t.height() + 2*gap
	}
}

// columnX is where a column of pods begins, from the left of the block.
func (b *block) columnX(column int) int {
	x := 0
	for c := range column {
		x += podWidth + 2*gap + lane*b.lanes[c]
	}
	return x
}

// sortPods finds the pairs, and puts the pods in an order in which the lines to
// each bridge lie side by side.
func (b *block) sortPods() {
	mine := map[uint32]bool{}
	for _, pod := range b.pods {
		mine[pod.Inode] = true
	}
	byPod := map[uint32][]*Device{}
	hasPorts := map[string]bool{}
	for i := range b.node.Devices {
		dev := &b.node.Devices[i]
		if dev.Peer != nil && mine[dev.Peer.Netns] {
			byPod[dev.Peer.Netns] = append(byPod[dev.Peer.Netns], dev)
		}
		hasPorts[dev.Master] = true
	}
	master := func(pod *Namespace) string {
		if list := byPod[pod.Inode]; len(list) > 0 {
			return list[0].Master
		}
		return "\U0010FFFF" // last
	}
	slices.SortStableFunc(b.pods, func(x, y *Namespace) int { return cmp.Compare(master(x), master(y)) })
	inGrid := map[*Device]bool{}
	for i, pod := range b.pods {
		for _, dev := range byPod[pod.Inode] {
			nth := slices.IndexFunc(shownDevices(pod), func(d *Device) bool { return d.Ifindex == dev.Peer.Ifindex })
			b.ports = append(b.ports, port{dev, i, max(nth, 0), place{pod.Inode, dev.Peer.Ifindex}})
			inGrid[dev] = true
		}
	}
	for i := range b.node.Devices {
		switch dev := &b.node.Devices[i]; {
		case dev.Kind == "loopback" || inGrid[dev]:
		case hasPorts[dev.Name]:
			b.bridges = append(b.bridges, dev)
		default:
			b.uplinks = append(b.uplinks, dev)
		}
	}
	slices.SortStableFunc(b.uplinks, rankUplink)
}

// shownDevices are those of a pod that its box shows.
func shownDevices(pod *Namespace) []*Device {
	var out []*Device
	for i := range pod.Devices {
		if pod.Devices[i].Kind != "loopback" {
			out = append(out, &pod.Devices[i])
		}
	}
	return out
}

// layers sorts namespaces that belong to no node by how many others lie between
// them and the nodes. The last layer is the nearest.
func (d *drawing) layers(hosts []*Namespace) [][]*Namespace {
	near := map[uint32]bool{}
	for i := range d.t.Namespaces {
		near[d.t.Namespaces[i].Inode] = true
	}
	for _, h := range hosts {
		delete(near, h.Inode)
	}
	var layers [][]*Namespace
	for len(hosts) > 0 {
		var layer, rest []*Namespace
		for _, h := range hosts {
			if slices.ContainsFunc(h.Devices, func(dev Device) bool { return dev.Peer != nil && near[dev.Peer.Netns] }) {
				layer = append(layer, h)
			} else {
				rest = append(rest, h)
			}
		}
		if len(layer) == 0 {
			layer, rest = rest, nil // linked to nothing here
		}
		for _, h := range layer {
			near[h.Inode] = true
		}
		layers, hosts = append(layers, layer), rest
	}
	slices.Reverse(layers)
	return layers
}
