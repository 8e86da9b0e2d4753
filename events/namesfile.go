// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// MaxNamesFile is the size in bytes above which a names file is refused.
const MaxNamesFile = 16 << 20

// NamesFile says which network namespace of a kernel is which node or pod, and
// what addresses are called. It names things where there is no Kubernetes, and
// where one kernel holds several nodes.
type NamesFile struct {
	Netns     []NetnsName
	Addresses []AddressName

	byIP map[string]AddressNames
}

// NetnsName is what the file says of one network namespace. Exactly one of
// Name, Inode and PID is set and finds it.
type NetnsName struct {
	Name  string `json:"name"`  // under /run/netns
	Inode uint32 `json:"inode"` // of the namespace
	PID   uint32 `json:"pid"`   // of a process in it
	Kind  string `json:"kind"`  // KindNode, KindPod or KindNetwork
	Node  string `json:"node"`  // the node it is, or belongs to
	Pod   string `json:"pod"`   // namespace/name

	line int
}

// AddressName is what the file says of one address.
type AddressName struct {
	IP      string `json:"ip"`
	Pod     string `json:"pod"`     // namespace/name
	Service string `json:"service"` // namespace/name
	Node    string `json:"node"`

	line int
}

// ParseNamesFile reads a names file. Its errors say where in the file they are.
func ParseNamesFile(data []byte) (*NamesFile, error) {
	if len(data) > MaxNamesFile {
		return nil, fmt.Errorf("names file: %d bytes are more than the %d that are read", len(data), MaxNamesFile)
	}
	p := namesParser{data: data, dec: json.NewDecoder(bytes.NewReader(data)), file: &NamesFile{byIP: map[string]AddressNames{}}}
	p.dec.DisallowUnknownFields()
	if err := p.object(); err != nil {
		return nil, err
	}
	return p.file, nil
}

// Address returns the names of an address: the zero value if it has none.
func (f *NamesFile) Address(ip string) AddressNames { return f.byIP[ip] }

// Resolve finds the namespaces of the file, by inode. find returns the inode of
// an entry that has a name or a pid. Entries that cannot be found are left
// out, and reported: a pod may be gone by now.
func (f *NamesFile) Resolve(find func(NetnsName) (uint32, error)) (map[uint32]Namespace, []error) {
	found := make(map[uint32]Namespace, len(f.Netns))
	by := make(map[uint32]NetnsName, len(f.Netns))
	var errs []error
	for _, n := range f.Netns {
		inode := n.Inode
		if inode == 0 {
			var err error
			if inode, err = find(n); err != nil {
				errs = append(errs, fmt.Errorf("names file: line %d: netns %s: %w", n.line, n.key(), err))
				continue
			}
		}
		if other, again := by[inode]; again {
			errs = append(errs, fmt.Errorf("names file: line %d: netns %s is the same namespace as %s", n.line, n.key(), other.key()))
			continue
		}
		by[inode] = n
		found[inode] = n.Namespace()
	}
	return found, errs
}

// Namespace is the entry in the words of the model. The shown name is the name,
// or what the namespace is.
func (n *NetnsName) Namespace() Namespace {
	ns := Namespace{Name: n.Name, Kind: n.Kind, Node: n.Node, Pod: n.Pod}
	if ns.Kind == KindNode && ns.Node == "" {
		ns.Node = n.Name
	}
	if ns.Name == "" && ns.Kind == KindPod {
		_, ns.Name, _ = strings.Cut(n.Pod, "/")
	}
	if ns.Name == "" && ns.Kind == KindNode {
		ns.Name = n.Node
	}
	return ns
}

// key is what finds the entry, in words.
func (n *NetnsName) key() string {
	switch {
	case n.Name != "":
		return fmt.Sprintf("name %s", quoted(n.Name))
	case n.Inode != 0:
		return fmt.Sprintf("inode %d", n.Inode)
	}
	return fmt.Sprintf("pid %d", n.PID)
}

// namesParser reads the file entry by entry, to know the line of each.
type namesParser struct {
	data []byte
	dec  *json.Decoder
	file *NamesFile
}

// object reads the whole file.
func (p *namesParser) object() error {
	if err := p.delim('{', "the file must be one JSON object"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		line := p.line()
		tok, err := p.dec.Token()
		if err != nil {
			return p.syntax(err)
		}
		key, _ := tok.(string)
		if seen[key] {
			return p.errorf(line, "%s stands there twice", quoted(key))
		}
		seen[key] = true
		switch key {
		case "netns":
			err = p.list(key, p.netns)
		case "addresses":
			err = p.list(key, p.address)
		default:
			err = p.errorf(line, "unknown field %s: known are netns and addresses", quoted(key))
		}
		if err != nil {
			return err
		}
	}
	if err := p.delim('}', "the file must be one JSON object"); err != nil {
		return err
	}
	if line := p.line(); p.dec.More() {
		return p.errorf(line, "something follows the JSON object")
	}
	return nil
}

// list reads an array and calls entry for each of its elements.
func (p *namesParser) list(key string, entry func(line int, field string) error) error {
	if err := p.delim('[', key+" must be a list"); err != nil {
		return err
	}
	for i := 0; p.dec.More(); i++ {
		if err := entry(p.line(), fmt.Sprintf("%s[%d]", key, i)); err != nil {
			return err
		}
	}
	return p.delim(']', key+" must be a list")
}

func (p *namesParser) netns(line int, field string) error {
	n := NetnsName{line: line}
	if err := p.decode(&n, line, field); err != nil {
		return err
	}
	keys := 0
	for _, set := range []bool{n.Name != "", n.Inode != 0, n.PID != 0} {
		if set {
			keys++
		}
	}
	switch {
	case keys != 1:
		return p.errorf(line, "%s: give one of name, inode and pid, to find the namespace by; there are %d", field, keys)
	case strings.Contains(n.Name, "/") || n.Name == "." || n.Name == "..":
		return p.errorf(line, "%s.name: %s is not the name of a file in /run/netns", field, quoted(n.Name))
	case n.Kind == "":
		return p.errorf(line, "%s.kind is missing: node, pod or network", field)
	case n.Kind != KindNode && n.Kind != KindPod && n.Kind != KindNetwork:
		return p.errorf(line, "%s.kind: %s is none of node, pod and network", field, quoted(n.Kind))
	case n.Pod != "" && n.Kind != KindPod:
		return p.errorf(line, "%s.pod: the kind is %s, not pod", field, n.Kind)
	case n.Pod != "" && !qualified(n.Pod):
		return p.errorf(line, "%s.pod: %s is not NAMESPACE/NAME", field, quoted(n.Pod))
	case n.Node != "" && n.Kind == KindNetwork:
		return p.errorf(line, "%s.node: the kind is network, which belongs to no node", field)
	}
	p.file.Netns = append(p.file.Netns, n)
	return nil
}

func (p *namesParser) address(line int, field string) error {
	a := AddressName{line: line}
	if err := p.decode(&a, line, field); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(a.IP)
	switch {
	case a.IP == "":
		return p.errorf(line, "%s.ip is missing", field)
	case err != nil || addr.Zone() != "":
		return p.errorf(line, "%s.ip: %s is not an IP address", field, quoted(a.IP))
	case a.Pod == "" && a.Service == "" && a.Node == "":
		return p.errorf(line, "%s: %s has no name: give pod, service or node", field, addr)
	case a.Pod != "" && !qualified(a.Pod):
		return p.errorf(line, "%s.pod: %s is not NAMESPACE/NAME", field, quoted(a.Pod))
	case a.Service != "" && !qualified(a.Service):
		return p.errorf(line, "%s.service: %s is not NAMESPACE/NAME", field, quoted(a.Service))
	}
	a.IP = addr.Unmap().String()
	names := p.file.byIP[a.IP]
	for _, m := range []struct {
		what string
		have *string
		add  string
	}{{"pod", &names.Pod, a.Pod}, {"service", &names.Service, a.Service}, {"node", &names.Node, a.Node}} {
		if *m.have != "" && m.add != "" && *m.have != m.add {
			return p.errorf(line, "%s.%s: %s is called %s already", field, m.what, a.IP, quoted(*m.have))
		}
		if m.add != "" {
			*m.have = m.add
		}
	}
	p.file.byIP[a.IP] = names
	p.file.Addresses = append(p.file.Addresses, a)
	return nil
}

// qualified says whether s is NAMESPACE/NAME.
func qualified(s string) bool {
	ns, name, ok := strings.Cut(s, "/")
	return ok && ns != "" && name != "" && !strings.Contains(name, "/")
}

// decode reads one entry.
func (p *namesParser) decode(into any, line int, field string) error {
	err := p.dec.Decode(into)
	if typ, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if typ.Field != "" {
			field += "." + typ.Field
		}
		return p.errorf(line, "%s: a %s cannot stand here", field, Safe(typ.Value))
	}
	if err != nil && strings.HasPrefix(err.Error(), "json: unknown field ") {
		return p.errorf(line, "%s: %s", field, Safe(strings.TrimPrefix(err.Error(), "json: ")))
	}
	if err != nil {
		return p.syntax(err)
	}
	return nil
}

// delim reads one bracket, and complains with want if there is another thing.
func (p *namesParser) delim(d json.Delim, want string) error {
	line := p.line()
	tok, err := p.dec.Token()
	if err != nil {
		return p.syntax(err)
	}
	if tok != d {
		return p.errorf(line, "%s", want)
	}
	return nil
}

// line is the line of what is read next.
func (p *namesParser) line() int {
	off := int(p.dec.InputOffset())
	rest := p.data[off:]
	skipped := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:"))
	return 1 + bytes.Count(p.data[:off+skipped], []byte{'\n'})
}

// syntax turns an error of the JSON reader into ours.
func (p *namesParser) syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return p.errorf(1+bytes.Count(p.data, []byte{'\n'}), "the file ends in the middle")
	}
	if syn, ok := errors.AsType[*json.SyntaxError](err); ok {
		off := min(max(int(syn.Offset)-1, 0), len(p.data))
		// Between two values the offset is that of the first one's end.
		line := max(p.line(), 1+bytes.Count(p.data[:off], []byte{'\n'}))
		return p.errorf(line, "not JSON: %s", Safe(syn.Error()))
	}
	return p.errorf(p.line(), "%s", Safe(err.Error()))
}

func (p *namesParser) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("names file: line %d: %s", line, fmt.Sprintf(format, args...))
}
