// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// fact is a line of a block of facts: exactly one of them.
type fact struct {
	Service   *Service `json:"svc,omitempty"`
	Sysctl    *Sysctl  `json:"sysctl,omitempty"`
	Conntrack *CTEntry `json:"ct,omitempty"`
}

// maxFacts bounds the memory of the facts that are read, in bytes as cost counts
// them. A node with 10,000 services needs a third of it.
const maxFacts = 32 << 20

// cost is about the memory that a fact takes, of which line is the text.
func (f *fact) cost(line []byte) int {
	n := len(line) + 256
	if f.Service != nil {
		n += 128 * len(f.Service.Destinations)
	}
	return n
}

var errTooManyFacts = errors.New("more facts than a recording may hold")

// lines calls line with each fact as JSON, as long as that goes well.
func (f *Facts) lines(line func([]byte) error) error {
	tell := func(one *fact) error {
		b, err := json.Marshal(one)
		if err != nil {
			return err
		}
		return line(b)
	}
	for i := range f.Services {
		if err := tell(&fact{Service: &f.Services[i]}); err != nil {
			return err
		}
	}
	for i := range f.Sysctls {
		if err := tell(&fact{Sysctl: &f.Sysctls[i]}); err != nil {
			return err
		}
	}
	for i := range f.Conntrack {
		if err := tell(&fact{Conntrack: &f.Conntrack[i]}); err != nil {
			return err
		}
	}
	return nil
}

// parse adds the facts of a block. held is what those cost that there are already.
func (f *Facts) parse(raw []byte, held *int) error {
	for line := range splitLines(raw) {
		if len(line) >= maxLine {
			return fmt.Errorf("a fact of %d bytes", len(line))
		}
		var one fact
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		if *held += one.cost(line); *held > maxFacts {
			return errTooManyFacts
		}
		switch {
		case one.Service != nil:
			f.Services = append(f.Services, *one.Service)
		case one.Sysctl != nil:
			f.Sysctls = append(f.Sysctls, *one.Sysctl)
		case one.Conntrack != nil:
			f.Conntrack = append(f.Conntrack, *one.Conntrack)
		}
	}
	return nil
}

// splitLines gives each line of a block that is not empty.
func splitLines(raw []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(raw) > 0 {
			line, rest, _ := bytes.Cut(raw, []byte{'\n'})
			raw = rest
			if len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}
