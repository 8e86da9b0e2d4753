// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ipset is a set of ipset(8). Its members are kept by their text, in one form.
type ipset struct {
	r       *Ruleset
	parts   []string // of its type: ip, net, port, iface, …
	list    bool     // list:set, of members
	members []string
	v6      bool
	// unsure: what is in it changes by itself, or is not understood.
	unsure  bool
	icmp    bool            // it has types of ICMP for ports
	entries map[string]bool // true: it excludes (nomatch)
	// lengths are those of the networks in it, the longest first.
	lengths []int
}

// AddIPSets adds what ipset save printed.
func (r *Ruleset) AddIPSets(text []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) < 3 {
			continue
		}
		switch f[0] {
		case "create":
			r.ipsets[f[1]] = r.newIPSet(f[2], f[3:])
		case "add":
			s := r.ipsets[f[1]]
			if s == nil {
				return fmt.Errorf("line %d: set %.40q was not created", n, f[1])
			}
			if r.elements++; r.elements > maxElements {
				return errors.New("more elements of sets than are read")
			}
			s.add(f[2], f[3:])
		}
	}
	return lines.Err()
}

func (r *Ruleset) newIPSet(typ string, options []string) *ipset {
	_, parts, _ := strings.Cut(typ, ":")
	s := &ipset{r: r, parts: strings.Split(parts, ","), list: typ == "list:set", entries: map[string]bool{}}
	for i, o := range options {
		switch o {
		case "family":
			s.v6 = i+1 < len(options) && options[i+1] == "inet6"
		case "timeout", "netmask", "bitmask", "markmask":
			s.unsure = true
		}
	}
	return s
}

func (s *ipset) add(entry string, options []string) {
	if s.list {
		s.members = append(s.members, entry)
		return
	}
	nomatch := false
	for _, o := range options {
		nomatch = nomatch || o == "nomatch"
	}
	words := strings.Split(entry, ",")
	if len(words) != len(s.parts) {
		s.unsure = true
		return
	}
	for i, part := range s.parts {
		switch part {
		case "ip", "net":
			prefix, ok := parsePrefix(words[i])
			if !ok {
				s.unsure = true // a range, which ipset does not write
				return
			}
			s.addLength(prefix.Bits())
			words[i] = prefix.String()
		case "port":
			if !s.port(&words[i]) {
				s.unsure = true
				return
			}
		}
	}
	s.entries[strings.Join(words, ",")] = nomatch
}

func (s *ipset) addLength(bits int) {
	for i, b := range s.lengths {
		if b == bits {
			return
		}
		if b < bits {
			s.lengths = append(s.lengths[:i], append([]int{bits}, s.lengths[i:]...)...)
			return
		}
	}
	s.lengths = append(s.lengths, bits)
}

// port writes tcp:80 as 6:80. A bitmap's port is of any protocol.
func (s *ipset) port(word *string) bool {
	proto, port, ok := strings.Cut(*word, ":")
	if !ok {
		_, err := strconv.ParseUint(*word, 10, 16)
		return err == nil && len(s.parts) == 1
	}
	n, known := protocols[proto]
	if !known {
		var err error
		if n, err = strconv.ParseUint(proto, 10, 8); err != nil {
			return false
		}
	}
	s.icmp = s.icmp || n == protoICMP || n == protoICMPv6
	*word = strconv.FormatUint(n, 10) + ":" + port
	return true
}

// has says whether the packet is in the set; directions are its dimensions' src
// and dst.
func (s *ipset) has(p *packet, directions []string) tri {
	if s.list {
		return s.anyMember(p, directions)
	}
	for _, part := range s.parts {
		if (part == "ip" || part == "net") && s.v6 != p.isV6() {
			return no
		}
	}
	if s.unsure || len(directions) < len(s.parts) {
		return maybe
	}
	return s.look(p, directions, 0, "")
}

// anyMember says so of a list of sets. The kernel refuses a list in a list.
func (s *ipset) anyMember(p *packet, directions []string) tri {
	is := no
	for _, name := range s.members {
		m := s.r.ipsets[name]
		if m == nil || m.list {
			return maybe
		}
		is = is.or(m.has(p, directions))
	}
	return is
}

// look looks for what the packet has in the set's parts from i on, behind those
// before. The longest network decides.
func (s *ipset) look(p *packet, directions []string, i int, before string) tri {
	if i == len(s.parts) {
		nomatch, ok := s.entries[before]
		if !ok {
			return no
		}
		return triOf(!nomatch)
	}
	if i > 0 {
		before += ","
	}
	src := directions[i] == "src"
	switch s.parts[i] {
	case "ip", "net":
		return s.lookAddr(p, directions, i, before, p.addr(src))
	case "port":
		word, known := s.portWord(p, src)
		if !known {
			return maybe
		}
		return s.look(p, directions, i+1, before+word)
	case "iface":
		name, known := p.device(src)
		if !known {
			return maybe
		}
		return s.look(p, directions, i+1, before+name)
	}
	return maybe // mac, mark
}

func (s *ipset) lookAddr(p *packet, directions []string, i int, before string, a addr) tri {
	for _, bits := range s.lengths {
		prefix, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		word := netip.PrefixFrom(prefix.Addr(), bits).String()
		if is := s.look(p, directions, i+1, before+word); is != no || s.excluded(before+word) {
			return is
		}
	}
	return no
}

// excluded says whether a whole entry excludes what it names.
func (s *ipset) excluded(entry string) bool { return s.entries[entry] }

func (s *ipset) portWord(p *packet, src bool) (string, bool) {
	switch {
	case p.h.Proto == protoICMP || p.h.Proto == protoICMPv6:
		return "none", !s.icmp
	case !p.hasPorts():
		return "", false
	case len(s.parts) == 1: // bitmap:port
		return strconv.FormatUint(p.port(src), 10), true
	}
	return strconv.Itoa(int(p.h.Proto)) + ":" + strconv.FormatUint(p.port(src), 10), true
}
