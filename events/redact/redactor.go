// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/netip"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// maxCached bounds each of a Redactor's caches, in entries. The busiest of them
// then has about 3 MB.
const maxCached = 1 << 15

// Redactor makes pseudonyms. Its methods answer the same for the same key and
// the same original, whatever came before. It is not safe for concurrent use.
type Redactor struct {
	// Ports says that TCP, UDP and SCTP ports become other ports too. It has to
	// be set before the first use, and equally for recordings to be merged.
	Ports bool

	pan   *pan
	perm  *permutations
	diger hash.Hash

	addrs     cache[netip.Addr, netip.Addr]
	originals cache[netip.Addr, netip.Addr]
	numbers   cache[numbered, uint64]
	comms     cache[[16]byte, [16]byte]
	macs      cache[[6]byte, [6]byte]
	words     cache[named, string]

	// ids are the latest packet numbers, by their last bits: an event has up to
	// three, and the next one mostly the same.
	ids [256]struct{ was, is uint64 }

	packet [maxHeaders]byte // where Event puts Event.Bytes
}

// numbered is a number of a kind.
type numbered struct {
	tag byte
	x   uint64
}

// named is a text of a kind.
type named struct{ kind, text string }

// cache keeps what was computed, up to maxCached entries; then it begins anew. It
// allocates nothing once it has been full.
type cache[K comparable, V any] map[K]V

func (c *cache[K, V]) put(k K, v V) {
	if *c == nil {
		*c = make(cache[K, V])
	}
	if len(*c) >= maxCached {
		clear(*c)
	}
	(*c)[k] = v
}

// New returns a Redactor with a key.
func New(k Key) *Redactor {
	secret := k.derive("words")
	return &Redactor{
		pan:   newPAN(k.derive("addresses"), specialRanges),
		perm:  newPermutations(k.derive("numbers")),
		diger: hmac.New(sha256.New, secret[:]),
	}
}

// Addr returns the pseudonym of an address.
func (r *Redactor) Addr(a netip.Addr) netip.Addr {
	if p, ok := r.addrs[a]; ok {
		return p
	}
	p := r.pan.pseudonym(a)
	r.addrs.put(a, p)
	return p
}

// original is the address that has a pseudonym.
func (r *Redactor) original(p netip.Addr) netip.Addr {
	if a, ok := r.originals[p]; ok {
		return a
	}
	a := r.pan.original(p)
	r.originals.put(p, a)
	return a
}

// AddrPort returns the pseudonym of an address with a port.
func (r *Redactor) AddrPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(r.Addr(a.Addr()), r.Port(a.Port()))
}

// Prefix returns the pseudonym of a subnet: the one that the pseudonyms of its
// addresses are in.
func (r *Redactor) Prefix(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(r.Addr(p.Masked().Addr()), p.Bits()).Masked()
}

// Port returns the pseudonym of a port, or the port where ports are kept.
func (r *Redactor) Port(p uint16) uint16 {
	if !r.Ports {
		return p
	}
	return r.identifier(p)
}

// originalPort is the port that has a pseudonym.
func (r *Redactor) originalPort(p uint16) uint16 {
	if !r.Ports {
		return p
	}
	return uint16(r.perm.back(portNumbers, uint64(p))) //nolint:gosec // 16 bits
}

// identifier returns the pseudonym of an ICMP identifier.
func (r *Redactor) identifier(id uint16) uint16 {
	return uint16(r.number(portNumbers, uint64(id))) //nolint:gosec // 16 bits
}

// number returns the pseudonym of a number.
func (r *Redactor) number(d domain, x uint64) uint64 {
	if x == 0 {
		return 0
	}
	k := numbered{d.tag, x}
	if y, ok := r.numbers[k]; ok {
		return y
	}
	y := r.perm.forward(d, x)
	r.numbers.put(k, y)
	return y
}

// Tuple returns the pseudonym of a connection's 5-tuple.
func (r *Redactor) Tuple(t events.Tuple) events.Tuple {
	t.Src, t.Dst = r.Addr(t.Src), r.Addr(t.Dst)
	if t.Proto == protoICMP || t.Proto == protoICMPv6 {
		t.SrcPort, t.DstPort = r.identifier(t.SrcPort), r.identifier(t.DstPort)
	} else {
		t.SrcPort, t.DstPort = r.Port(t.SrcPort), r.Port(t.DstPort)
	}
	return t
}

// Netns returns the pseudonym of a network namespace's inode number.
func (r *Redactor) Netns(inode uint32) uint32 {
	return uint32(r.number(netnsNumbers, uint64(inode))) //nolint:gosec // 32 bits
}

func (r *Redactor) originalNetns(p uint32) uint32 {
	return uint32(r.perm.back(netnsNumbers, uint64(p))) //nolint:gosec // 32 bits
}

// Inode returns the pseudonym of a socket's inode number.
func (r *Redactor) Inode(inode uint32) uint32 {
	return uint32(r.number(inodeNumbers, uint64(inode))) //nolint:gosec // 32 bits
}

func (r *Redactor) originalPID(p uint32) uint32 {
	return uint32(r.perm.back(pidNumbers, uint64(p))) //nolint:gosec // 22 bits
}

func (r *Redactor) originalInode(p uint32) uint32 {
	return uint32(r.perm.back(inodeNumbers, uint64(p))) //nolint:gosec // 32 bits
}

// PID returns the pseudonym of a process id. It looks like one.
func (r *Redactor) PID(pid uint32) uint32 {
	if pid>>pidNumbers.bits != 0 {
		return 0 // no kernel gives such a one; "unknown" is safe
	}
	return uint32(r.number(pidNumbers, uint64(pid))) //nolint:gosec // 22 bits
}

// PacketID returns the pseudonym of Event.Packet, Event.Other and Event.Flow:
// the bits that come from a kernel address become others.
func (r *Redactor) PacketID(id uint64) uint64 {
	const mask = 1<<28 - 1
	if id&mask == 0 {
		return id
	}
	c := &r.ids[id%uint64(len(r.ids))]
	if c.was != id {
		c.was, c.is = id, id&^mask|r.perm.forward(idNumbers, id&mask)
	}
	return c.is
}

// Location returns the pseudonym of a kernel address: these tell where the
// kernel lies in memory.
func (r *Redactor) Location(addr uint64) uint64 { return r.number(locationNumbers, addr) }

func (r *Redactor) originalLocation(p uint64) uint64 { return r.perm.back(locationNumbers, p) }

// Hash returns the pseudonym of a payload's hash.
func (r *Redactor) Hash(h uint32) uint32 {
	return uint32(r.perm.forward(hashNumbers, uint64(h))) //nolint:gosec // 32 bits; most occur a few times only
}

// MAC returns the pseudonym of a link address: a locally administered one. Zero,
// broadcast and well-known groups stay, and groups stay groups.
func (r *Redactor) MAC(m [6]byte) [6]byte {
	if p, ok := r.macs[m]; ok {
		return p
	}
	d := r.digest("mac", string(m[:]))
	p := m
	switch {
	case m == [6]byte{}, m == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
	case bytes.HasPrefix(m[:], []byte{0x01, 0x80, 0xc2, 0, 0}): // spanning tree, LLDP
	case bytes.HasPrefix(m[:], []byte{0x01, 0x00, 0x5e}): // an IPv4 group's last 23 bits
		if m[3] != 0 || m[4] != 0 {
			p[3], p[4], p[5] = d[0]&0x7f, d[1], d[2]
		}
	case bytes.HasPrefix(m[:], []byte{0x33, 0x33, 0xff}): // an address' last 24 bits
		copy(p[3:], d[:])
	case bytes.HasPrefix(m[:], []byte{0x33, 0x33}): // an IPv6 group's last 32 bits
		if m[2] != 0 || m[3] > 1 {
			copy(p[2:], d[:])
		}
	default:
		copy(p[:], d[:])
		p[0] = p[0]&0xfc | 0x02 | m[0]&1
	}
	r.macs.put(m, p)
	return p
}

// Kinds of text. Texts of one kind that are equal have equal words.
const (
	kindObject  = "object"
	kindProcess = "process"
	kindDevice  = "device"
	kindID      = "id"
	kindSymbol  = "symbol"
	// Not a kind: what an object's word stands for.
	kindOriginal = "original"
)

func (r *Redactor) digest(kind, text string) [32]byte {
	r.diger.Reset()
	r.diger.Write([]byte(kind + "\x00" + text))
	return [32]byte(r.diger.Sum(nil))
}

func (r *Redactor) word(kind, text string, form func([32]byte) string) string {
	if text == "" {
		return ""
	}
	k := named{kind, text}
	if w, ok := r.words[k]; ok {
		return w
	}
	w := form(r.digest(kind, text))
	r.words.put(k, w)
	return w
}

// Object returns the words for the name of a namespace, pod, service or node:
// one for each part between slashes.
func (r *Redactor) Object(name string) string {
	if !strings.Contains(name, "/") {
		return r.part(name)
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = r.part(p)
	}
	return strings.Join(parts, "/")
}

// part is the word for a part of a name. As long as the word is kept, so is what
// it stands for.
func (r *Redactor) part(name string) string {
	if w, ok := r.words[named{kindObject, name}]; ok || name == "" {
		return w
	}
	w := r.word(kindObject, name, longWord)
	r.words.put(named{kindOriginal, w}, name)
	return w
}

// originalObject is the name that a word stands for which Object made lately; empty:
// not known. A word cannot be undone.
func (r *Redactor) originalObject(word string) string { return r.words[named{kindOriginal, word}] }

// ServicePort returns the pseudonym of a service's port: of a number as Port does
// it, of a name as Object does.
func (r *Redactor) ServicePort(name string) string {
	if number.MatchString(name) {
		return r.portWord(name)
	}
	return r.Object(name)
}

// Process returns the word for a command name, of at most 14 bytes.
func (r *Redactor) Process(comm string) string { return r.word(kindProcess, comm, shortWord) }

// comm is Process for a name as the kernel keeps it.
func (r *Redactor) comm(c [16]byte) [16]byte {
	if c[0] == 0 {
		return [16]byte{} // what stands behind the end of the name is nobody's business
	}
	if w, ok := r.comms[c]; ok {
		return w
	}
	text, _, _ := bytes.Cut(c[:], []byte{0})
	var w [16]byte
	copy(w[:], r.Process(string(text)))
	r.comms.put(c, w)
	return w
}

// Symbol returns the name of a kernel function as it is, and a word for a BPF
// program's, which whoever wrote it has chosen.
func (r *Redactor) Symbol(name string) string {
	const programs = "bpf_prog_"
	if rest, ok := strings.CutPrefix(name, programs); ok {
		return programs + r.word(kindSymbol, rest, codeWord)
	}
	return name
}

// ID returns the pseudonym of a boot or run id. It has the form of a UUID.
func (r *Redactor) ID(id string) string {
	return r.word(kindID, id, func(d [32]byte) string {
		h := hex.EncodeToString(d[:16])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	})
}
