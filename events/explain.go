// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Step is one link of the chain of evidence.
type Step struct {
	NS    uint64 `json:"ns"` // since Traversal.Time
	Netns string `json:"netns"`
	Text  string `json:"text"`
	Hook  string `json:"hook"`
	// Decides marks the events that the verdict rests on.
	Decides bool `json:"decides,omitempty"`
}

// Explanation is why a traversal has its verdict.
type Explanation struct {
	Steps    []Step    `json:"steps"`
	Findings []Finding `json:"findings"`
}

// milestone says what an event at a station means for the way of a packet. Words
// in braces: {dev} the device, {detail} what the event added, {site} likewise.
// Stations that have none are told only where the verdict rests on them.
var milestone = map[Station]string{
	StationSocketOut: "sent{by}", StationFragmenting: "to be cut into fragments",
	StationReceive:      "came in by {dev}",
	StationBridgeFlood:  "bridged to every port",
	StationBridgeUp:     "handed up to IP by the bridge",
	StationLocalDeliver: "addressed to this namespace",
	StationForward:      "to be forwarded",
	StationRouteError:   "the route is one that refuses",
	StationMartian:      "routing complains of its source",
	StationIPVSSchedule: "a virtual service looks for a real server",
	StationIPVSConn:     "a real server was chosen: {detail}",
	StationIPVSXmit:     "sent to the real server",
	StationIPVSLeave:    "the virtual service has no destination",
	StationIPVSOut:      "a real server's reply is translated back",
	StationSocketIn:     "given to a socket{by}", StationBacklog: "put into the backlog of a socket{by}",
	StationRawIn: "a copy for a raw socket{by}", StationPingIn: "given to a ping socket",
	StationListen: "reached a listening socket", StationTimeWait: "for a connection in TIME_WAIT",
	StationICMPIn: "given to ICMP", StationErrorIn: "told to the socket that it is about",
	StationICMPSend: "answered with ICMP {detail}", StationResetSend: "answered with an RST", StationReject: "answered with an RST by a rule",
	StationConntrackFull:  "conntrack has no entry left",
	StationConntrackClash: "its new conntrack entry clashes with another one",
	StationDrop:           "dropped: {detail}",
}

// decisive are the words of stations that are told only where the verdict rests
// on them.
var decisive = map[Station]string{
	StationIPIn: "IP input", StationIPOut: "routed to {dev}", StationNeighbour: "needs the link address of its next hop on {dev}",
	StationTCEgress: "passed tc on its way out by {dev}", StationTCIngress: "passed tc on its way in by {dev}",
	StationQueue: "handed to the queue of {dev}", StationTransmit: "handed to the driver of {dev}", StationVeth: "crosses the veth pair at {dev}",
	StationBridgeIn: "the bridge decides where to", StationBridgeForward: "bridged to one port", StationBridgeOut: "sent through the bridge {dev}",
	StationBridgeNF:  "netfilter is called from the bridge",
	StationNetfilter: "netfilter {detail}", StationTable: "rules judge it in {detail}", StationVerdict: "said {detail}",
	StationConntrackIn: "conntrack looks it up", StationConntrackConfirm: "its conntrack entry is to be confirmed", StationNAT: "NAT rewrites it",
	StationIPVSIn:      "is it for a virtual service?",
	StationTransportIn: "a socket is looked for", StationEnd: "freed", StationMerge: "merged into another packet",
}

// Explain gives the chain of evidence of a traversal, and what is known of its end.
func Explain(t *Traversal) *Explanation {
	x := &Explanation{Steps: []Step{}, Findings: list(t.Findings())}
	for i := range x.Findings {
		x.Findings[i].complete()
	}
	for i := range t.Visits {
		x.visit(&t.Visits[i])
	}
	return x
}

// visit takes in the events of a visit that mean something for the packet's way.
func (x *Explanation) visit(v *Visit) {
	places := natPlaces(v)
	for i := range v.Hooks {
		h := &v.Hooks[i]
		text, ok := milestone[h.Station]
		if h.Station == StationReceive && i > 0 && !h.Evidence {
			ok = false // the bridge's device, where it was handed up: said already
		}
		if !ok && h.Evidence {
			text, ok = decisive[h.Station]
		}
		if ok {
			x.Steps = append(x.Steps, Step{NS: h.NS, Netns: v.Name, Text: h.fill(text), Hook: h.Hook, Decides: h.Evidence})
		}
		for j := range v.NAT {
			if places[j] == i {
				x.Steps = append(x.Steps, Step{NS: h.NS, Netns: v.Name, Text: natText(&v.NAT[j]), Hook: h.Hook})
			}
		}
	}
	if n := len(v.Hooks); v.Left == ViaDevice && n > 0 && len(v.Devices) > 0 {
		h := &v.Hooks[n-1]
		x.Steps = append(x.Steps, Step{NS: v.EndNS, Netns: v.Name, Text: "left by " + v.Devices[len(v.Devices)-1], Hook: h.Hook})
	}
}

// fill replaces the words in braces.
func (h *HookVisit) fill(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	by := ""
	if h.Detail != "" {
		by = " by " + h.Detail
		if h.Station != StationSocketOut {
			by = " of " + h.Detail
		}
	}
	return strings.NewReplacer("{dev}", orWords(h.Device, "a device"), "{detail}", orWords(h.Detail, "no more is known"), "{by}", by).Replace(text)
}

// explanationText writes an explanation as lines without an indent.
func explanationText(t *Traversal) []string {
	x := Explain(t)
	var lines []string
	if len(x.Steps) > 0 {
		lines = append(lines, "evidence:")
	}
	width := 0
	for i := range x.Steps {
		width = max(width, utf8.RuneCountInString(Safe(x.Steps[i].Netns)))
	}
	for i := range x.Steps {
		s := &x.Steps[i]
		mark := " "
		if s.Decides {
			mark = "»"
		}
		lines = append(lines, fmt.Sprintf("%8s  %s %s %s (%s)", "+"+lapse(s.NS), pad(Safe(s.Netns), width), mark, SafeSentence(s.Text), Safe(s.Hook)))
	}
	for i := range x.Findings {
		f := &x.Findings[i]
		lines = append(lines, "finding: "+f.Reason+", "+f.Title, "check next: "+f.Advice, "it is not this if: "+f.Unless)
	}
	return lines
}
