// SPDX-License-Identifier: Apache-2.0

package report

import (
	"time"
)

// pageData is what the page knows beside its packets. Fields of the type int
// that stand for a text are its number in Dict.
type pageData struct {
	Title      string          `json:"title"`
	Made       string          `json:"made"`
	Tool       string          `json:"tool"`
	Base       string          `json:"base"`  // the time from which the packets' times count
	First      int64           `json:"first"` // ns since Base
	Last       int64           `json:"last"`
	Count      int             `json:"count"` // of all traversals
	Lost       int             `json:"lost"`  // events missing in them
	Listed     int             `json:"listed"`
	Bare       int             `json:"bare"` // listed without their hooks
	Verdicts   map[string]int  `json:"verdicts"`
	Warnings   []string        `json:"warnings"`
	Remarks    []string        `json:"remarks"`
	Recordings []recordingData `json:"recordings"`
	Groups     []groupData     `json:"groups"`
	Endpoints  []endpoint      `json:"endpoints"`
	Flows      []string        `json:"flows"`
	Dict       []string        `json:"dict"`
}

type recordingData struct {
	Name     string            `json:"name"`
	Node     string            `json:"node"`
	Kernel   string            `json:"kernel"`
	Tool     string            `json:"tool"`
	Command  string            `json:"command"`
	Filter   string            `json:"filter"`
	OnlyNode string            `json:"only_node"`
	Start    string            `json:"start"`
	End      string            `json:"end"`
	Events   uint64            `json:"events"`
	Matched  uint64            `json:"matched"`
	Packets  uint64            `json:"packets"`
	Lost     map[string]uint64 `json:"lost"`
	Missing  []string          `json:"missing"`
	Notes    []string          `json:"notes"`
	Tables   []Table           `json:"tables"`
}

type groupData struct {
	Verdict string      `json:"verdict"`
	Where   int         `json:"where"`
	Reason  int         `json:"reason"`
	Proto   int         `json:"proto"`
	Reply   bool        `json:"reply"`
	Other   bool        `json:"other"`
	Stacks  float64     `json:"stacks"`
	L3      float64     `json:"l3"`
	Summary int         `json:"summary"`
	Same    bool        `json:"same"`
	Count   int         `json:"count"`
	Lost    int         `json:"lost"`
	Visits  []visitData `json:"visits"`
	NAT     [][11]any   `json:"nat"` // visit, by, kind, masquerade, from, to, service, pod, node, mark, count
	Rest    int         `json:"rest"`
	Times   [][4]uint64 `json:"times"`
}

type visitData struct {
	Name     int     `json:"name"`
	Kind     int     `json:"kind"`
	Node     int     `json:"node"`
	Pod      int     `json:"pod"`
	Entered  int     `json:"entered"`
	Left     int     `json:"left"`
	Stacks   float64 `json:"stacks"`
	Bridged  bool    `json:"bridged"`
	BridgeNF bool    `json:"bridge_nf"`
	Devices  []int   `json:"devices"`
	Out      []bool  `json:"out"` // for each device: on the way down from the stack
}

func (c *collector) data(title string, facts *Facts, bare int) []byte {
	d := pageData{
		Title: text(title), Made: timeText(facts.Made), Tool: text(facts.Tool), Base: timeText(c.base),
		First: c.first, Last: c.last, Count: c.count, Lost: c.lost, Listed: c.rows.n, Bare: bare, Verdicts: map[string]int{},
		Warnings: texts(facts.Warnings), Remarks: texts(facts.Remarks), Recordings: []recordingData{},
		Groups: []groupData{}, Endpoints: c.endpoints.list, Flows: c.flowIDs,
	}
	for v, n := range c.verdicts {
		d.Verdicts[text(string(v))] = n
	}
	for i := range facts.Recordings {
		d.Recordings = append(d.Recordings, recordingOf(&facts.Recordings[i]))
	}
	for _, g := range c.groups {
		d.Groups = append(d.Groups, c.groupOf(g))
	}
	d.Dict = c.dict.list // last: all else puts texts into it
	return appendJSON(nil, &d)
}

func (c *collector) groupOf(g *group) groupData {
	d := groupData{
		Verdict: text(string(g.verdict)), Where: c.dict.id(g.where), Reason: c.dict.id(g.reason), Proto: c.dict.id(g.proto),
		Reply: g.reply, Other: g.other, Stacks: g.stacks, L3: g.l3, Summary: c.dict.id(g.summary), Same: g.same,
		Count: g.count, Lost: g.lost, Visits: c.visitsOf(g.visits), NAT: [][11]any{}, Rest: g.rest, Times: g.times.quantiles(),
	}
	for _, l := range g.labels() {
		d.NAT = append(d.NAT, [11]any{
			l.visit, c.dict.id(l.by), c.dict.id(l.kind), l.masquerade, c.dict.id(l.from), c.dict.id(l.to),
			c.dict.id(l.service), c.dict.id(l.pod), c.dict.id(l.node), c.dict.id(l.mark), g.nats[l],
		})
	}
	return d
}

func (c *collector) visitsOf(visits []visit) []visitData {
	out := make([]visitData, len(visits))
	for i := range visits {
		v := &visits[i]
		out[i] = visitData{
			Name: c.dict.id(v.name), Kind: c.dict.id(v.kind), Node: c.dict.id(v.node), Pod: c.dict.id(v.pod), Entered: c.dict.id(v.entered),
			Left: c.dict.id(v.left), Stacks: v.stacks, Bridged: v.bridged, BridgeNF: v.bridgeNF, Devices: c.dict.ids(v.devices),
			Out: make([]bool, len(v.ways)),
		}
		for j, w := range v.ways {
			out[i].Out[j] = w.out
		}
	}
	return out
}

func recordingOf(r *Recording) recordingData {
	d := recordingData{
		Name: text(r.Name), Node: text(r.Node), Kernel: text(r.Kernel), Tool: text(r.Tool), Command: text(r.Command),
		Filter: text(r.Filter), OnlyNode: text(r.OnlyNode), Start: timeText(r.Start), End: timeText(r.End),
		Events: r.Events, Matched: r.Matched, Packets: r.Packets, Lost: map[string]uint64{},
		Missing: texts(r.Missing), Notes: texts(r.Notes), Tables: []Table{},
	}
	for stage, n := range r.Lost {
		d.Lost[text(stage)] += n
	}
	for _, t := range r.Tables {
		shown := Table{Title: text(t.Title), Head: texts(t.Head), Rows: [][]string{}}
		for _, row := range t.Rows {
			shown.Rows = append(shown.Rows, texts(row))
		}
		d.Tables = append(d.Tables, shown)
	}
	return d
}

// timeText is a time for Date of JavaScript; empty: none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}
