// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/stackhop/stackhop/events"
)

// Why a file cannot be read as a recording.
var (
	ErrEmpty        = errors.New("the file is empty")
	ErrNotRecording = errors.New("not a stackhop recording")
	ErrNewer        = errors.New("made by a newer version of stackhop")
	// ErrNoMeta is of a file whose description of the run is lost.
	ErrNoMeta = errors.New("what says of which run the recording is, is damaged")
)

// maxWhat bounds the text of a damage, which may quote the file.
const maxWhat = 200

// maxDamages bounds the damages that are told one by one.
const maxDamages = 100

// What a Sink may have beside its own methods.
type (
	// StatusSink takes the counts in between.
	StatusSink interface{ Status(*Status) }
	// FactsSink takes facts, each once; Reader.Facts has all of them.
	FactsSink interface{ Facts(*Facts) }
	// DamageSink is told of damage where it is, between what comes before and behind.
	DamageSink interface{ Damaged(*Damage) }
	// SetSink takes changes of the selection's sets, see SetHistory.
	SetSink interface{ SetChange(*SetChange) }
	// NameSink takes names, each before the item from which on it is in force.
	NameSink interface{ Name(*Name) }
)

// Reader reads a recording. It is for one goroutine.
type Reader struct {
	s       *scanner
	at, off int64 // where the block begins and ends that is taken in
	meta    Meta
	hooks   []events.Hook
	book    *book
	pending []Name // of a block of names
	used    int    // how many of them are in force
	after   int64  // where that block ended
	facts   Facts
	nFacts  int             // what they cost, see maxFacts
	stages  map[string]bool // of losses, that were told so far
	end     *End
	dec     decoder
	damage  []error
	more    int // damages beyond maxDamages

	sink     Sink
	nameSink NameSink
}

// NewReader reads a recording's beginning. Its errors are one of the above, or
// r's own. Where the beginning is damaged, the description of the run is taken
// from further on in the file; if r can seek, nothing else is lost by that.
func NewReader(r io.Reader) (*Reader, error) {
	var b [fileHeader]byte
	n, err := io.ReadFull(r, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	if err := checkHeader(b[:n]); err != nil {
		return nil, err
	}
	rd := &Reader{book: newBook()}
	seek, begin := seeker(r)
	if rd.s, err = newScanner(r, fileHeader, rd.damaged); err != nil {
		return nil, err
	}
	first, err := rd.begin()
	if err != nil || first {
		return rd, err
	}
	if seek == nil {
		rd.damaged(&Damage{fileHeader, rd.s.at - fileHeader, "what comes before the description of the run cannot be read"})
		return rd, nil
	}
	if _, err := seek.Seek(begin, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	rd.damage, rd.more = nil, 0
	rd.s, err = newScanner(r, fileHeader, rd.damaged)
	return rd, err
}

// seeker returns r as one that can seek, and where it is; nil if it cannot.
func seeker(r io.Reader) (io.Seeker, int64) {
	s, ok := r.(io.Seeker)
	if !ok {
		return nil, 0
	}
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil { // a pipe
		return nil, 0
	}
	return s, at
}

// checkHeader looks at the first bytes of a file.
func checkHeader(b []byte) error {
	if len(b) == 0 {
		return ErrEmpty
	}
	if n := min(len(b), len(fileMagic)); string(b[:n]) != fileMagic[:n] {
		if sentAsText(b) {
			return fmt.Errorf("%w any longer: it was transferred as text, which changed it; transfer it as a binary file", ErrNotRecording)
		}
		return ErrNotRecording
	}
	if len(b) < fileHeader {
		return fmt.Errorf("%w: it is cut off after %d bytes", ErrNotRecording, len(b))
	}
	switch major, minor := le.Uint16(b[8:]), le.Uint16(b[10:]); {
	case major > maxMajor:
		return ErrNotRecording
	case major > Major:
		return fmt.Errorf("%w: its format is %d.%d, and %d is the newest that is known", ErrNewer, major, minor, Major)
	case major < Major:
		return fmt.Errorf("%w: there is no format %d.%d", ErrNotRecording, major, minor)
	}
	return nil
}

// sentAsText says whether a file that does not begin as a recording does would
// have, but for its line ends or what is not ASCII.
func sentAsText(b []byte) bool {
	name, first := []byte(fileMagic[1:4]), rune(fileMagic[0])
	for _, begin := range []string{fileMagic[:1], string(first & 0x7f), string(first), string(utf8.RuneError)} {
		if rest, ok := bytes.CutPrefix(b, []byte(begin)); ok && bytes.HasPrefix(rest, name) {
			return true
		}
	}
	return false
}

// begin looks for the description of the run. first says whether it was where
// it belongs.
func (r *Reader) begin() (first bool, err error) {
	for {
		k, raw, err := r.s.next()
		if errors.Is(err, io.EOF) {
			return false, errors.Join(append([]error{ErrNoMeta}, r.damage...)...)
		}
		if err != nil {
			return false, err
		}
		if k != kindMeta {
			continue
		}
		r.at, r.off = r.s.at, r.s.off
		if err := r.setMeta(raw); err != nil {
			r.blockDamaged(err)
			continue
		}
		return r.s.at == fileHeader, nil
	}
}

func (r *Reader) setMeta(raw []byte) error {
	var m Meta
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("the description of the run: %w", err)
	}
	known := make([]bool, MaxHookID+1)
	known[events.Elsewhere] = true
	var hooks []events.Hook
	for _, h := range m.Hooks {
		if h.ID < 1 || h.ID > MaxHookID {
			return fmt.Errorf("hook %q has the number %d", h.Name, h.ID)
		}
		// A station that a later version has is none to this one.
		st, _ := events.StationByName(h.Station)
		hooks = append(hooks, events.Hook{ID: h.ID, Name: h.Name, Station: st})
		known[h.ID] = true
	}
	r.meta, r.hooks, r.dec.known = m, hooks, known
	return nil
}

// damaged notes damage.
func (r *Reader) damaged(d *Damage) {
	if s, ok := r.sink.(DamageSink); ok {
		s.Damaged(d)
	}
	if len(r.damage) >= maxDamages {
		r.more++
		return
	}
	r.damage = append(r.damage, d)
}

// blockDamaged notes that the block that was read last is of no use.
func (r *Reader) blockDamaged(err error) {
	r.damaged(&Damage{r.at, r.off - r.at, fmt.Sprintf("%.*s", maxWhat, err.Error())})
}

// Run gives everything from here to the end to a sink. Where parts are damaged
// it goes on behind them, and returns a *Damage for each, joined; an error
// without any comes from the underlying reader, which is read ahead of the sink, in
// another goroutine.
func (r *Reader) Run(sink Sink) error {
	r.sink = sink
	r.nameSink, _ = sink.(NameSink)
	a := readAhead(r.s, &r.dec)
	defer close(a.stop)
	for p := range a.full {
		if p.end {
			r.name(math.MaxUint32)
			if errors.Is(p.err, io.EOF) {
				break
			}
			return r.damages(p.err)
		}
		if p.damage != nil {
			r.damaged(p.damage)
		} else if err := r.piece(p); err != nil {
			r.blockDamaged(err)
		}
		a.free <- p
	}
	return r.damages(nil)
}

func (r *Reader) damages(err error) error {
	all := r.damage
	if r.more > 0 {
		all = append(all, fmt.Errorf("and damaged at %d more places", r.more)) //nolint:gocritic // r.damage is not used again
	}
	return errors.Join(append(all, err)...)
}

// block takes in a block that is not one of events. Kinds that a later version has are passed over.
func (r *Reader) block(k kind, raw []byte) error {
	switch k {
	case kindNames:
		r.name(math.MaxUint32)
		var err error
		r.pending, err = parseNames(raw, r.pending)
		r.after = r.off
		return err
	case kindFacts:
		var f Facts
		if err := f.parse(raw, &r.nFacts); err != nil {
			return fmt.Errorf("facts: %w", err)
		}
		r.facts.Services = append(r.facts.Services, f.Services...)
		r.facts.Sysctls = append(r.facts.Sysctls, f.Sysctls...)
		r.facts.Conntrack = append(r.facts.Conntrack, f.Conntrack...)
		if s, ok := r.sink.(FactsSink); ok {
			s.Facts(&f)
		}
	case kindStatus:
		var st Status
		if err := json.Unmarshal(raw, &st); err != nil {
			return fmt.Errorf("status: %w", err)
		}
		if err := r.checkStages(st.Lost); err != nil {
			return fmt.Errorf("status: %w", err)
		}
		if s, ok := r.sink.(StatusSink); ok {
			s.Status(&st)
		}
	case kindSets:
		err := parseSets(raw, func(c *SetChange) {
			if s, ok := r.sink.(SetSink); ok {
				s.SetChange(c)
			}
		})
		if err != nil {
			return fmt.Errorf("sets: %w", err)
		}
	case kindEnd:
		var e End
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("totals: %w", err)
		}
		if err := r.checkStages(e.Lost); err != nil {
			return fmt.Errorf("totals: %w", err)
		}
		r.end = &e
	}
	return nil
}

// What stages of losses are called, and how many there may be: sums by stage are kept,
// and every traversal tells of them.
const maxStages = 64

var stageName = regexp.MustCompile(`^[a-z-]{1,32}$`)

// checkStages refuses stages that no recorder has.
func (r *Reader) checkStages(lost map[string]uint64) error {
	for stage := range lost {
		switch {
		case r.stages[stage]:
		case !stageName.MatchString(stage):
			return fmt.Errorf("no stage of losses is called %.40q", stage)
		case len(r.stages) == maxStages:
			return fmt.Errorf("there are more than %d stages of losses", maxStages)
		default:
			if r.stages == nil {
				r.stages = map[string]bool{}
			}
			r.stages[stage] = true
		}
	}
	return nil
}

// piece takes in a block, or a part of one.
func (r *Reader) piece(p *piece) error {
	r.at, r.off = p.at, p.off
	if p.kind == kindEvents {
		return r.events(p)
	}
	return r.block(p.kind, p.raw)
}

// events gives the items of a block to the sink, and puts names in force in
// between. A block that is malformed is used as far as it makes sense: its
// checksum is right, so it was made like that.
func (r *Reader) events(p *piece) error {
	if p.first == 0 && r.at != r.after { // the names were of another block, which is lost
		r.name(math.MaxUint32)
	}
	for i := range p.items {
		if len(r.pending) > 0 {
			r.name(uint32(p.first + i)) //nolint:gosec // at most maxItems
		}
		if it := &p.items[i]; it.tick {
			r.sink.Tick(it.now)
		} else {
			r.sink.Event(&it.e)
		}
	}
	if p.last {
		r.name(math.MaxUint32)
	}
	return p.err
}

// name puts in force the names that come before an item.
func (r *Reader) name(item uint32) {
	for ; r.used < len(r.pending) && r.pending[r.used].At <= item; r.used++ {
		n := &r.pending[r.used]
		if err := r.book.put(n); err != nil {
			r.blockDamaged(err)
		} else if r.nameSink != nil {
			r.nameSink.Name(n)
		}
	}
	if r.used == len(r.pending) {
		r.pending, r.used = r.pending[:0], 0
	}
}

// Meta describes the run. It is not to be changed.
func (r *Reader) Meta() *Meta { return &r.meta }

// Hooks is the run's hook table.
func (r *Reader) Hooks() []events.Hook { return r.hooks }

// Names answers as the run's names did at the moment that Run has come to.
func (r *Reader) Names() events.Names { return r.book }

// Facts are all that were read so far.
func (r *Reader) Facts() *Facts { return &r.facts }

// End has the totals once Run has read them; nil: the recording was not closed.
func (r *Reader) End() *End { return r.end }

// Wall turns monotonic ns into the time of day, by Meta.Clock.
func (r *Reader) Wall(mono uint64) time.Time { return r.meta.Clock.Wall(mono) }
