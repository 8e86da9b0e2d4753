// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"

	"github.com/stackhop/stackhop/events"
)

// text makes what came from outside fit to be shown.
func text(s string) string { return events.SafeSentence(s) }

func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

// dict numbers texts, so that the page has each once. 0 is the empty text.
type dict struct {
	index map[string]int // by the text as it came
	list  []string       // fit to be shown
	size  int            // bytes of list in the file
}

func newDict() dict { return dict{index: map[string]int{"": 0}, list: []string{""}} }

func (d *dict) id(s string) int {
	i, ok := d.index[s]
	if !ok {
		i = len(d.list)
		d.index[s] = i
		shown := text(s)
		d.list = append(d.list, shown)
		d.size += jsonSize(shown)
	}
	return i
}

// ids are the numbers of several texts.
func (d *dict) ids(list []string) []int {
	out := make([]int, len(list))
	for i, s := range list {
		out[i] = d.id(s)
	}
	return out
}

// endpoints numbers the ends of packets.
type endpoints struct {
	index map[events.Endpoint]int
	list  []endpoint
}

// endpoint is address, port, pod, service, node, process, pid, and whether the
// names may be out of date (0, 1): numbers of the dictionary but for the port, the
// pid and the last.
type endpoint [8]int

// perEndpoint is about what an endpoint takes in the file, in bytes.
const perEndpoint = 34

func (e *endpoints) id(d *dict, p events.Endpoint) int {
	i, ok := e.index[p]
	if !ok {
		i = len(e.list)
		e.index[p] = i
		n := endpoint{d.id(p.IP), int(p.Port), d.id(p.Pod), d.id(p.Service), d.id(p.Node), d.id(p.Process), int(p.PID), 0}
		if p.Stale {
			n[7] = 1
		}
		e.list = append(e.list, n)
	}
	return i
}

// jsonSize is how many bytes a text that is fit to be shown takes in the file.
func jsonSize(s string) int {
	n := len(s) + len(`"",`)
	for i := range len(s) {
		switch s[i] {
		case '<', '>', '&':
			n += len(`\u003c`) - 1
		case '\\', '"':
			n++
		}
	}
	return n
}

// appendJSON writes v, with <, >, & and the line separators of JavaScript
// escaped, so that it cannot end the element it stands in.
func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		panic("report: " + err.Error()) // plain structs of texts and numbers
	}
	return append(b, j...)
}
