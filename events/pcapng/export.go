// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Sink takes what a source tells, in the order in which it was recorded.
type Sink interface {
	Event(e *events.Event) // e is valid only until Event returns
	Tick(now uint64)       // see events.Stitcher.Advance
}

// Source is the run of one node.
type Source struct {
	Config events.Config // hooks, names and clock of the run; Node is its node
	// Replay tells the whole run. It is called twice. What it told before an
	// error is used; the error of the second time is returned by Export.
	Replay func(Sink) error

	Kernel string // release
	Arch   string
	Filter string // the run's tcpdump expression; empty: none

	Lost      map[string]uint64 // events, by the stage that lost them
	Matched   uint64            // packets that the selection matched
	Delivered uint64            // events that came to user space
}

// Input is what to export.
type Input struct {
	Tool    string // name and version of the tool
	Sources []Source
	// Traversals tells those that are to be written, with their Packets (see
	// events.Config.Wires) and the source that these are of. One that was joined
	// from several is told once; its Parts find their sources by the node's name,
	// source is for those that do not. nil: what each source's events stitch to.
	// Packets without a traversal are left out. Lost, Matched and Delivered of the
	// sources may be filled in, and their clocks set, while it runs.
	Traversals func(tell func(source int, t *events.Traversal)) error
}

// Stats counts what an export wrote and what it left out.
type Stats struct {
	Packets    int // written
	Interfaces int // written, without those that only have a node's counters
	Rebuilt    int // of Packets: their headers were rebuilt from fields
	NoHeaders  int // left out: what was in them is not known
	Unselected int // left out: they belong to no traversal
}

// Export writes the sources' packets at their devices to w, in order of time.
// What can be read is written also when it returns an error.
func Export(w io.Writer, in Input) (Stats, error) {
	x := &exporter{in: &in, w: newBlockWriter(w)}
	if err := x.learn(); err != nil {
		return Stats{}, fmt.Errorf("export: %w", err)
	}
	x.w.section(x.section())
	err := x.packets()
	x.counters()
	if werr := x.w.flush(); werr != nil {
		return x.stats, fmt.Errorf("export: %w", werr)
	}
	return x.stats, err
}

// device is a device of a namespace, as a source knows it.
type device struct {
	source         int
	netns, ifindex uint32
}

// port is an interface that was written.
type port struct {
	id      uint32
	packets uint64
	source  int
}

type exporter struct {
	in      *Input
	w       *blockWriter
	surveys []*survey
	ports   map[device]*port
	written []*port
	buf     []byte
	stats   Stats
}

// learn is the first pass over all sources.
func (x *exporter) learn() error {
	x.ports = map[device]*port{}
	for range x.in.Sources {
		x.surveys = append(x.surveys, newSurvey())
	}
	if x.in.Traversals != nil {
		if err := x.in.Traversals(x.traversal); err != nil {
			return err
		}
	}
	for i := range x.in.Sources {
		s, v := &x.in.Sources[i], x.surveys[i]
		if s.Config.Wall == nil {
			s.Config.Wall = func(mono uint64) time.Time { return time.Unix(0, int64(mono)) } //nolint:gosec // ns since boot fit
		}
		var st *events.Stitcher
		if x.in.Traversals == nil {
			c := s.Config
			c.Wires = true
			st = events.NewStitcher(c, func(t *events.Traversal) { v.traversal(t, t.Packets) })
		}
		v.learn(s, st)
	}
	return nil
}

// traversal takes in a traversal of a source, or one of several.
func (x *exporter) traversal(source int, t *events.Traversal) {
	if t.Parts == nil {
		x.surveys[source].traversal(t, t.Packets)
		return
	}
	for i := range t.Parts {
		of := slices.IndexFunc(x.in.Sources, func(s Source) bool { return nodeName(&s) == t.Parts[i].Node })
		if of < 0 {
			of = source
		}
		x.surveys[of].traversal(t, t.Parts[i].Packets)
	}
}

// section describes the file.
func (x *exporter) section() *section {
	var nodes, systems, archs []string
	add := func(list []string, s string) []string {
		if s == "" || slices.Contains(list, s) {
			return list
		}
		return append(list, s)
	}
	for i := range x.in.Sources {
		s := &x.in.Sources[i]
		nodes = add(nodes, events.Safe(nodeName(s)))
		systems = add(systems, system(s))
		archs = add(archs, events.Safe(s.Arch))
	}
	return &section{
		hardware: strings.Join(archs, ", "), os: strings.Join(systems, ", "), application: events.Safe(x.in.Tool),
		comment: "nodes: " + strings.Join(nodes, ", ") + ". One packet for each time that a packet passed a device; " +
			"its comment and its packet id name the traversal that it belongs to. Payload and checksums above IP may be missing.",
	}
}

func nodeName(s *Source) string { return cmp.Or(s.Config.OnlyNode, s.Config.Node, "unnamed node") }

func system(s *Source) string {
	if s.Kernel == "" {
		return "Linux"
	}
	return "Linux " + events.Safe(s.Kernel)
}

// stream is a source in the second pass.
type stream struct {
	source int
	next   func() (*sight, bool)
	head   *sight // nil: it has ended
	ns     int64  // of head, since 1970
	view   *view
}

func (s *stream) advance(wall func(uint64) time.Time) {
	if x, ok := s.next(); ok {
		s.head, s.ns = x, wall(x.time).UnixNano()
		return
	}
	s.head = nil
}

// packets is the second pass: it writes the packets of all sources by time.
func (x *exporter) packets() error {
	errs := make([]error, len(x.in.Sources))
	var streams []*stream
	for i := range x.in.Sources {
		s := &x.in.Sources[i]
		next, stop := iter.Pull(s.sights(nil, &errs[i]))
		defer stop()
		st := &stream{source: i, next: next, view: newView()}
		st.advance(s.Config.Wall)
		streams = append(streams, st)
	}
	for x.w.err == nil {
		var oldest *stream
		for _, s := range streams {
			if s.head != nil && (oldest == nil || s.ns < oldest.ns) {
				oldest = s
			}
		}
		if oldest == nil {
			break
		}
		x.sight(oldest)
		oldest.advance(x.in.Sources[oldest.source].Config.Wall)
	}
	return errors.Join(errs...)
}

// sight writes the packet that a source tells next, if it is at a device.
func (x *exporter) sight(s *stream) {
	v := x.surveys[s.source]
	t := s.view.see(s.head)
	if !v.useful(s.head) {
		return
	}
	tr, copied := v.find(s.head.packet, s.ns)
	switch {
	case tr == nil:
		x.stats.Unselected++
		return
	case t == nil:
		x.stats.NoHeaders++
		return
	}
	p := x.port(device{s.source, s.head.netns, s.head.ifindex}, &s.head.link)
	f := frame{iface: p.id, ns: s.ns, direction: outbound, id: tr.id, comment: tr.comment}
	if s.head.station == events.StationReceive {
		f.direction = inbound
	}
	if copied {
		f.comment += " · a copy"
	}
	if len(t.bytes) == 0 {
		f.comment += " · headers rebuilt"
		x.stats.Rebuilt++
	}
	x.buf, f.original = appendFrame(x.buf[:0], t, &s.head.link)
	f.data = x.buf
	x.w.packet(&f)
	x.stats.Packets++
	p.packets++
}

// port is the interface of a device, written when it is first needed.
func (x *exporter) port(d device, link *events.Link) *port {
	if p := x.ports[d]; p != nil {
		return p
	}
	s := &x.in.Sources[d.source]
	i := describe(s, d.netns, d.ifindex)
	if !hasEthernet(link) {
		i.description += ", no Ethernet header seen: one of zeros stands for it"
	}
	x.w.iface(i)
	p := &port{id: uint32(len(x.written)), source: d.source} //nolint:gosec // memory ends before
	x.ports[d] = p
	x.written = append(x.written, p)
	x.stats.Interfaces++
	return p
}

// counters writes the statistics of the interfaces, and one interface more for
// each source: what was lost is known of the run, not of a device.
func (x *exporter) counters() {
	for _, p := range x.written {
		start, end := x.span(p.source)
		x.w.statistics(p.id, start, end, "packets of the exported traversals that passed this device; what was lost is told at the node's last interface",
			counter{isbIfRecv, p.packets}, counter{isbUsrDeliv, p.packets})
	}
	for i := range x.in.Sources {
		s := &x.in.Sources[i]
		x.w.iface(&iface{
			name:        events.Safe(nodeName(s)) + "/all devices",
			description: "counters of the whole run, no packets", filter: events.SafeSentence(s.Filter), os: system(s),
		})
		id := uint32(len(x.written) + i) //nolint:gosec // memory ends before
		start, end := x.span(i)
		lost := uint64(0)
		for _, n := range s.Lost {
			lost += n
		}
		x.w.statistics(id, start, end, lossText(s.Lost),
			counter{isbIfDrop, lost}, counter{isbFilterAccept, s.Matched}, counter{isbOSDrop, lost}, counter{isbUsrDeliv, s.Delivered})
	}
}

// span is the time from the first to the last event of a source, in ns since 1970.
func (x *exporter) span(source int) (start, end int64) {
	v, wall := x.surveys[source], x.in.Sources[source].Config.Wall
	return wall(v.first).UnixNano(), wall(v.last).UnixNano()
}

// lossText says what the counters of a run mean.
func lossText(lost map[string]uint64) string {
	var parts []string
	for _, stage := range slices.Sorted(maps.Keys(lost)) {
		if lost[stage] > 0 {
			parts = append(parts, events.Safe(stage)+" "+strconv.FormatUint(lost[stage], 10))
		}
	}
	if parts == nil {
		parts = []string{"none"}
	}
	return "of the whole run: filteraccept counts packets that the selection matched, usrdeliv events delivered, " +
		"ifdrop and osdrop both events lost by the recorder, not packets lost by a device. Lost by stage: " + strings.Join(parts, ", ")
}
