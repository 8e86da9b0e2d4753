// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/report"
)

// What a page lists of services.
const (
	maxToldServices  = 4096
	maxToldEndpoints = 1 << 16 // of all services
)

// toldServices are the virtual services that packets of a recording touched, each
// as it was told last.
type toldServices struct {
	list      map[toldService]events.ServiceFacts
	ends      map[toldPort]*events.ServiceEndpoints
	endpoints int // in ends
	leftOut   int // how often there was no room
}

// toldService is an address of a service, as packets find it that come to a node.
type toldService struct {
	ip, on string
	port   uint16
	proto  uint8
}

// toldPort is what has endpoints of its own: a port of a service, for one family
// of addresses.
type toldPort struct {
	name, port string
	proto      uint8
	is4        bool
}

// take takes in what was told of a service. What is gone stays: packets touched it.
func (s *toldServices) take(n *record.ServiceName) {
	if n.Gone {
		return
	}
	if s.list == nil {
		s.list, s.ends = map[toldService]events.ServiceFacts{}, map[toldPort]*events.ServiceEndpoints{}
	}
	f := n.Facts()
	ip, _ := netip.ParseAddr(string(n.IP)) // what is none has no endpoints
	port := toldPort{f.Name, f.Port, n.Proto, ip.Unmap().Is4()}
	at := toldService{string(n.IP), string(n.On), n.Port, n.Proto}
	if _, known := s.list[at]; !known && len(s.list) >= maxToldServices {
		s.leftOut++
		return
	}
	if e := f.Endpoints; e != nil {
		size := s.endpoints + len(e.List)
		if was := s.ends[port]; was != nil {
			size -= len(was.List)
		}
		if size > maxToldEndpoints {
			s.leftOut++
			return
		}
		s.ends[port], s.endpoints = e, size
	}
	f.Endpoints = nil
	s.list[at] = f
}

// tables are those of a page, if packets were sent to services.
func (s *toldServices) tables() []report.Table {
	var out []report.Table
	for _, t := range []report.Table{s.table(), s.endpointTable()} {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (s *toldServices) table() report.Table {
	rows := map[string][]string{}
	for at, f := range s.list {
		kind := f.Type
		if f.Affinity {
			kind += ", session affinity"
		}
		where := fmt.Sprintf("%s %s port %d", events.ProtoName(at.proto), at.ip, at.port)
		row := []string{portOf(f.Name, f.Port), where, kind, at.on, f.String()}
		rows[strings.Join(row, "\x00")] = row
	}
	return report.Table{
		Title: "Services that packets were sent to", Head: []string{"service", "address", "type", "on node", "packets may go to"}, Rows: sortedRows(rows),
	}
}

func (s *toldServices) endpointTable() report.Table {
	rows := map[string][]string{}
	add := func(row ...string) { rows[strings.Join(row, "\x00")] = row }
	for at, ends := range s.ends {
		for i := range ends.List {
			e := &ends.List[i]
			add(portOf(at.name, at.port), events.ProtoName(at.proto)+" "+e.AddrText(), e.Node, e.Zone, e.Condition())
		}
		if ends.LeftOut > 0 {
			add(portOf(at.name, at.port), fmt.Sprintf("… and %d more", ends.LeftOut), "", "", "")
		}
	}
	return report.Table{
		Title: "Endpoints of these services", Head: []string{"service", "endpoint", "node", "zone", "condition"}, Rows: sortedRows(rows),
	}
}

func portOf(service, port string) string { return service + " port " + port }
