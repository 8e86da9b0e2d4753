// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strconv"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Bounds of the file. Together they keep it below 30 MiB whatever comes in.
const (
	maxGroups    = 2000
	maxGroupSize = 6 << 20 // bytes of paths, about
	maxOthers    = 100     // groups of the paths beyond, told apart by their reasons
	maxRows      = 150_000
	maxRowSize   = 11 << 20 // bytes of rows, endpoints and texts, about
	maxKept      = 8 << 20  // bytes of details of terminated packets
	maxDetails   = 11 << 20 // bytes of details in the file

	// What things take in the file, about, in bytes.
	perRow   = 60
	perGroup = 600
	perVisit = 300
	perLabel = 40
	perByte  = 6 // of a text with nothing but characters that are escaped
)

// collector takes traversals in, one by one, and keeps what the page needs.
type collector struct {
	dict      dict
	endpoints endpoints
	groups    []*group
	groupSize int
	others    int
	byKey     map[string]*group
	flows     map[string]int
	flowIDs   []string
	textSize  int // bytes of IDs of rows, links and flows

	base     time.Time // of the first traversal
	first    int64     // ns since base
	last     int64
	verdicts map[events.Verdict]int
	count    int
	lost     int

	rows  rows
	room  int // bytes left for details of terminated packets
	key   []byte
	buf   []byte
	words map[[4]string]int // by protocol, flags, ICMP type and direction
}

// rows are the columns of the packets that are listed.
type rows struct {
	n                                          int
	group, src, dst, words, summary, flow, len []byte
	time, took, id                             []byte
	// Links to other packets, by row; most have none: [ID, text].
	because   map[int][2]any
	therefore map[int][][2]any
}

func newCollector() *collector {
	return &collector{
		dict: newDict(), endpoints: endpoints{index: map[events.Endpoint]int{}, list: []endpoint{}}, byKey: map[string]*group{},
		flows: map[string]int{}, flowIDs: []string{}, verdicts: map[events.Verdict]int{}, words: map[[4]string]int{}, room: maxKept,
		rows: rows{because: map[int][2]any{}, therefore: map[int][][2]any{}},
	}
}

// add takes a traversal in.
func (c *collector) add(t *events.Traversal) {
	if c.count == 0 {
		c.base = t.Time
	}
	c.count++
	c.verdicts[t.Verdict]++
	c.lost += t.Lost
	at := t.Time.Sub(c.base).Nanoseconds()
	c.first, c.last = min(c.first, at), max(c.last, at)

	g := c.group(t)
	g.add(t, &c.groupSize)
	if c.full() {
		return
	}
	row := c.row(g, at, t)
	c.keep(g, row, t)
}

// full says that no more packets can be listed.
func (c *collector) full() bool {
	size := c.rows.n*perRow + c.dict.size + len(c.endpoints.list)*perEndpoint + c.textSize
	return c.rows.n >= maxRows || size >= maxRowSize
}

// group finds the path of a traversal. When there are too many, the new ones
// are put together by how they ended.
func (c *collector) group(t *events.Traversal) *group {
	c.key = appendKey(c.key[:0], t)
	if g := c.byKey[string(c.key)]; g != nil {
		return g
	}
	if len(c.groups) >= maxGroups || c.groupSize >= maxGroupSize {
		return c.other(t)
	}
	g := newGroup(len(c.groups), t)
	c.groups = append(c.groups, g)
	c.groupSize += len(c.key)*perByte + perGroup + len(t.Visits)*perVisit
	c.byKey[string(c.key)] = g
	return g
}

// other finds the group of the paths that were too many.
func (c *collector) other(t *events.Traversal) *group {
	g := otherGroup(len(c.groups), t)
	if c.others >= maxOthers {
		g.where, g.reason = "", ""
	}
	key := strings.Join([]string{"", string(g.verdict), g.where, g.reason}, "\x00")
	if known := c.byKey[key]; known != nil {
		return known
	}
	c.others++
	c.groups = append(c.groups, g)
	c.byKey[key] = g
	return g
}

// row lists a packet.
func (c *collector) row(g *group, at int64, t *events.Traversal) int {
	r := &c.rows
	r.group = number(r.group, g.id)
	r.time = append(strconv.AppendInt(r.time, at, 10), ',')
	r.took = appendNumber(r.took, whole(t))
	r.src = number(r.src, c.endpoints.id(&c.dict, t.Src))
	r.dst = number(r.dst, c.endpoints.id(&c.dict, t.Dst))
	r.words = number(r.words, c.wordsID(t))
	r.summary = number(r.summary, c.dict.id(t.Summary))
	r.flow = number(r.flow, c.flowID(t.Flow))
	r.len = appendNumber(r.len, uint64(t.Length))
	r.id = append(appendJSON(r.id, c.idText(t.ID)), ',')
	row := r.n
	r.n++
	if t.CausedBy != "" {
		r.because[row] = [2]any{c.idText(t.CausedBy), c.dict.id(t.CausedByText)}
	}
	for i, id := range t.Causes {
		link := [2]any{c.idText(id), 0}
		if i < len(t.CausesText) {
			link[1] = c.dict.id(t.CausesText[i])
		}
		r.therefore[row] = append(r.therefore[row], link)
	}
	return row
}

// idText is an ID as it stands in the file, which is counted.
func (c *collector) idText(id string) string {
	shown := text(id)
	c.textSize += jsonSize(shown)
	return shown
}

func number(b []byte, n int) []byte { return append(strconv.AppendInt(b, int64(n), 10), ',') }

// flowID numbers flows.
func (c *collector) flowID(flow string) int {
	i, ok := c.flows[flow]
	if !ok {
		i = len(c.flowIDs)
		c.flows[flow] = i
		c.flowIDs = append(c.flowIDs, c.idText(flow))
	}
	return i
}

// wordsID numbers what a packet is called: "tcp SA reply".
func (c *collector) wordsID(t *events.Traversal) int {
	key := [4]string{t.Proto, t.TCPFlags, t.ICMP}
	if t.Direction == "reply" {
		key[3] = t.Direction
	}
	i, ok := c.words[key]
	if !ok {
		i = c.dict.id(strings.Join(strings.Fields(strings.Join(key[:], " ")), " "))
		c.words[key] = i
	}
	return i
}
