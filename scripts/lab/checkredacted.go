// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// redacted gives both nodes' recordings pseudonyms of one key: they are merged as
// before, and nothing of the lab's names and addresses is in them.
func (r *recordingsCheck) redacted() error {
	key := r.path("key")
	var files []string
	for _, node := range []string{"n1", "n2"} {
		file := r.path(node + "-redacted.hop")
		files = append(files, file)
		if _, err := r.tool.run("redact", r.path(node+".hop"), "-o", file, "--key", key); err != nil {
			return err
		}
	}
	s, all, err := r.replay(files...)
	if err != nil {
		return err
	}
	for _, f := range missingAndMore(signatures(r.together, namelessly), signatures(all, namelessly)) {
		r.fault("merged with pseudonyms: %s", f)
	}
	search := originals()
	found := search.in("the replay", s.stdout.Bytes())
	for _, file := range files {
		n, err := search.inRecording(file)
		if err != nil {
			return err
		}
		maps.Copy(found, n)
	}
	r.faults = append(r.faults, slices.Sorted(maps.Keys(found))...)
	r.fact("redacted: %d traversals merged, %d names and addresses searched for, %d found", len(all), len(search.texts), len(found))
	return r.hasOriginals(search)
}

// hasOriginals makes sure that the search finds what is there.
func (r *recordingsCheck) hasOriginals(search *search) error {
	found, err := search.inRecording(r.path("n1.hop"))
	if err != nil {
		return err
	}
	text := strings.Join(slices.Collect(maps.Keys(found)), "\n")
	for _, want := range []string{`"172.23.96.23"`, `"centos"`, `"n1"`, `"lab"`, `"vethcentos"`, "bytes of 172.23.96.23"} {
		if !strings.Contains(text, want) {
			r.fault("the search finds no %s in the original", want)
		}
	}
	return nil
}

// A search looks for what pseudonyms must have replaced.
type search struct {
	texts []string
	addrs []netip.Addr
	word  *regexp.Regexp
}

// originals are all names and addresses of the lab.
func originals() *search {
	s := &search{}
	ip := func(list ...string) {
		for _, a := range list {
			addr := netip.MustParseAddr(a)
			s.texts = append(s.texts, addr.String())
			s.addrs = append(s.addrs, addr)
		}
	}
	for _, n := range nodes {
		s.texts = append(s.texts, n.name)
		ip(n.ip, n.ip6, n.cniIP(), prefixIP(n.cni6))
	}
	for _, p := range pods {
		s.texts = append(s.texts, p.name, "veth"+p.name)
		ip(p.ip, p.ip6)
	}
	for _, v := range services {
		_, name, _ := strings.Cut(v.name, "/")
		s.texts = append(s.texts, name)
		ip(v.vip)
	}
	ip(gateway, gateway6, lbAddr, lbAddr6, outsideIP, outside6)
	s.texts = append(append(s.texts, networks...), "kube-system", "lab")
	var parts []string
	for _, t := range s.texts {
		parts = append(parts, regexp.QuoteMeta(t))
	}
	s.word = regexp.MustCompile(`\b(?:` + strings.Join(parts, "|") + `)\b`)
	return s
}

// in searches a text.
func (s *search) in(where string, text []byte) map[string]bool {
	found := map[string]bool{}
	for _, at := range s.word.FindAllIndex(text, -1) {
		found[fmt.Sprintf("%q is in %s", text[at[0]:at[1]], where)] = true
	}
	return found
}

// inRecording searches a file, as it is and with all that is in it unpacked.
func (s *search) inRecording(path string) (map[string]bool, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rd, err := record.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	u := unpacker{search: s, found: map[string]bool{}, told: map[string]bool{}}
	u.json(rd.Meta())
	if err := rd.Run(&u); err != nil {
		return nil, err
	}
	u.json(rd.End())
	for _, t := range s.texts {
		// Short words are in packed bytes by chance.
		if len(t) > 5 && bytes.Contains(raw, []byte(t)) {
			u.found[fmt.Sprintf("%q is in the file", t)] = true
		}
	}
	maps.Copy(u.found, s.in("the recording", u.text.Bytes()))
	return u.found, u.err
}

// unpacker makes text of all that a recording holds.
type unpacker struct {
	*search
	text  bytes.Buffer
	found map[string]bool
	told  map[string]bool // lines of text about events
	err   error
}

func (u *unpacker) json(v any) {
	if err := json.NewEncoder(&u.text).Encode(v); err != nil {
		u.err = err
	}
}

// Event implements record.Sink.
func (u *unpacker) Event(e *events.Event) {
	h, ct := &e.Header, &e.CT
	line := fmt.Sprintln(h.Tuple, h.Inner, ct.Original, ct.Reply, e.Backend, string(bytes.TrimRight(e.Socket.Comm[:], "\x00")))
	if !u.told[line] {
		u.told[line] = true
		u.text.WriteString(line)
	}
	for _, a := range u.addrs {
		if bytes.Contains(e.Bytes, a.AsSlice()) {
			u.found["the bytes of "+a.String()+" are in a packet"] = true
		}
	}
}

// Tick implements record.Sink.
func (u *unpacker) Tick(uint64) {}

// Name implements record.NameSink.
func (u *unpacker) Name(n *record.Name) { u.json(n) }

// SetChange implements record.SetSink.
func (u *unpacker) SetChange(c *record.SetChange) { u.json(c) }

// Facts implements record.FactsSink.
func (u *unpacker) Facts(f *record.Facts) { u.json(f) }

// Status implements record.StatusSink.
func (u *unpacker) Status(s *record.Status) { u.json(s) }
