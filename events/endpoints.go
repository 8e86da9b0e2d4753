// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxEndpoints is how many endpoints of a service are told at most; as many as
// an EndpointSlice may have.
const MaxEndpoints = 1000

// shownEndpoints is how many of them a traversal shows: it is shown for each
// packet. The page of a report and a recording have all of them.
const shownEndpoints = 8

// ServiceEndpoints are what a service port's packets may be sent to. They are not
// changed once they are told: whoever asks again may get the same ones.
type ServiceEndpoints struct {
	// List has the ready ones first, MaxEndpoints at most.
	List []ServiceEndpoint `json:"list"`
	// LeftOut is how many others there are.
	LeftOut int `json:"left_out"`
}

// ServiceEndpoint is an endpoint of an EndpointSlice, one of its addresses.
type ServiceEndpoint struct {
	Addr        netip.AddrPort `json:"addr"` // with port 0: at all ports
	Node        string         `json:"node,omitempty"`
	Zone        string         `json:"zone,omitempty"`
	Ready       bool           `json:"ready"`
	Serving     bool           `json:"serving"`
	Terminating bool           `json:"terminating"`
}

// MarshalJSON writes the first few of them, and counts the others.
func (e *ServiceEndpoints) MarshalJSON() ([]byte, error) {
	type plain ServiceEndpoints
	n := min(len(e.List), shownEndpoints)
	return json.Marshal(plain{List: list(e.List[:n]), LeftOut: e.LeftOut + len(e.List) - n})
}

// Equal says whether two lists say the same.
func (e *ServiceEndpoints) Equal(o *ServiceEndpoints) bool {
	if e == o || e == nil || o == nil {
		return e == o
	}
	return e.LeftOut == o.LeftOut && slices.Equal(e.List, o.List)
}

// String lists the first few: "10.0.0.1:80 on n2 ready". It is fit for a terminal.
func (e *ServiceEndpoints) String() string {
	if e == nil || len(e.List)+e.LeftOut == 0 {
		return "none"
	}
	n := min(len(e.List), shownEndpoints)
	words := make([]string, 0, n+1)
	for i := range e.List[:n] {
		words = append(words, e.List[i].String())
	}
	if more := len(e.List) - n + e.LeftOut; more > 0 {
		words = append(words, strconv.Itoa(more)+" more")
	}
	return strings.Join(words, "; ")
}

// String says where an endpoint is, and how. It is fit for a terminal.
func (e *ServiceEndpoint) String() string {
	s := e.AddrText()
	if e.Node != "" {
		s += " on " + Safe(e.Node)
	}
	if e.Zone != "" {
		s += " in " + Safe(e.Zone)
	}
	return s + " " + e.Condition()
}

// AddrText is where packets to an endpoint go.
func (e *ServiceEndpoint) AddrText() string {
	if e.Addr.Port() == 0 {
		return e.Addr.Addr().String()
	}
	return e.Addr.String()
}

// Condition is what the conditions of an endpoint mean for packets.
func (e *ServiceEndpoint) Condition() string {
	switch {
	case e.Terminating && e.Serving:
		return "terminating, still serving"
	case e.Terminating:
		return "terminating"
	case e.Ready:
		return "ready"
	case e.Serving:
		return "serving, not ready"
	}
	return "not ready"
}

// SameFacts says whether two answers about a service say the same.
func (f *ServiceFacts) SameFacts(o *ServiceFacts) bool {
	a, b := *f, *o
	a.Endpoints, b.Endpoints = nil, nil
	return a == b && f.Endpoints.Equal(o.Endpoints)
}
