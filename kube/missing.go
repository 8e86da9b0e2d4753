// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/near"
)

// Why a target stands for nothing.
var (
	ErrNotFound    = errors.New("not found")
	ErrNoAddress   = errors.New("it has no address")
	ErrNoPort      = errors.New("it has no port")
	ErrNobodyAsked = errors.New("nothing is known of it")
)

// missingError is a name that no source has told. Who follows a target meets it
// at each change of the cluster, and mostly does not show it; so its text, which
// takes a look at all names, is made late.
type missingError struct {
	x                     *Index
	kind, namespace, name string
	states                [sources]State
}

func (x *Index) missing(kind, namespace, name string) error {
	return &missingError{x, kind, namespace, name, x.states}
}

// tellers are the sources that tell names of a kind.
func (e *missingError) tellers() []Source {
	if e.kind == kindPod || e.kind == kindNamespace {
		return []Source{FromAPI, FromCRI}
	}
	return []Source{FromAPI}
}

func (e *missingError) asked() bool {
	return slices.ContainsFunc(e.tellers(), func(s Source) bool { return e.states[s] == Current })
}

// Unwrap tells what is not there from what nobody could be asked about.
func (e *missingError) Unwrap() error {
	if e.asked() {
		return ErrNotFound
	}
	return ErrNobodyAsked
}

func (e *missingError) Error() string {
	var state []string
	for _, s := range e.tellers() {
		if e.states[s] != Current {
			state = append(state, stateText(s, e.states[s]))
		}
	}
	if !e.asked() {
		return fmt.Sprintf("nothing is known of %s: %s", e.text(), strings.Join(state, "; "))
	}
	s := "no " + e.text()
	if hint := e.hint(); hint != "" {
		s += "; " + hint
	}
	if len(state) > 0 && e.states[FromAPI] != Current {
		s += "\n  only the container runtime's pods are known: " + stateText(FromAPI, e.states[FromAPI])
	}
	return s
}

// text is what was looked for.
func (e *missingError) text() string {
	switch e.kind {
	case kindNamespace:
		return "pod or service in namespace " + events.Safe(e.namespace)
	case kindNode:
		return "node " + events.Safe(e.name)
	case kindService:
		return "service " + events.Safe(fullName(e.namespace, e.name))
	}
	return "pod " + events.Safe(fullName(e.namespace, e.name))
}

// hint says what may have been meant: the same name elsewhere, pods of that
// workload, or a name that differs by little.
func (e *missingError) hint() string {
	known := e.x.known(e.kind)
	if e.kind == kindNode || e.kind == kindNamespace {
		return didYouMean(near.Names(either(e.name, e.namespace), known))
	}
	var elsewhere, pods []string
	full := fullName(e.namespace, e.name)
	for _, k := range known {
		if strings.HasSuffix(k, "/"+e.name) {
			elsewhere = append(elsewhere, k)
		}
		if e.kind == kindPod && strings.HasPrefix(k, full+"-") {
			pods = append(pods, k)
		}
	}
	const most = 5
	switch {
	case len(elsewhere) == 1:
		namespace, _, _ := strings.Cut(elsewhere[0], "/")
		return fmt.Sprintf("there is %s: give it, or -n %s", events.Safe(elsewhere[0]), events.Safe(namespace))
	case len(elsewhere) > most:
		return fmt.Sprintf("there are %s and %d more: give one of them, or -n", list(elsewhere[:most], ", "), len(elsewhere)-most)
	case len(elsewhere) > 1:
		return fmt.Sprintf("there are %s: give one of them, or -n", list(elsewhere, " and "))
	case len(pods) > 0:
		return didYouMean(pods[:min(most, len(pods))])
	}
	return didYouMean(near.Names(full, known))
}

// known lists the names of a kind in order.
func (x *Index) known(kind string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	names := map[string]struct{}{}
	switch kind {
	case kindPod:
		return slices.Sorted(maps.Keys(x.podNames))
	case kindService:
		return slices.Sorted(maps.Keys(x.services))
	case kindNode:
		return slices.Sorted(maps.Keys(x.nodes))
	}
	for full := range x.podNames {
		namespace, _, _ := strings.Cut(full, "/")
		names[namespace] = struct{}{}
	}
	for _, s := range x.services {
		names[s.Namespace] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "did you mean " + list(names, " or ") + "?"
}

// list is names from outside in a sentence, with a word before the last one.
func list(names []string, word string) string {
	safe := make([]string, len(names))
	for i, n := range names {
		safe[i] = events.Safe(n)
	}
	n := len(safe) - 1
	if n == 0 {
		return safe[0]
	}
	return strings.Join(safe[:n], ", ") + word + safe[n]
}

// portsText says which ports a service has.
func (s *service) portsText() string {
	if len(s.Ports) == 0 {
		return "it has none"
	}
	const most = 16
	var b strings.Builder
	b.WriteString("it has ")
	for i, p := range s.Ports {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(s.Ports)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d/%s", p.Port, events.ProtoName(p.Proto))
		if p.Name != "" {
			b.WriteString(" (" + events.Safe(p.Name) + ")")
		}
	}
	return b.String()
}

// stateText says how a source is.
func stateText(from Source, s State) string {
	who := map[Source]string{FromAPI: "the API server", FromCRI: "the container runtime", FromProc: "/proc"}[from]
	switch s {
	case Loading:
		return who + " has not told all it knows yet"
	case Stale:
		return who + " is lost"
	}
	return who + " is not there, or did not answer"
}
