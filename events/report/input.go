// SPDX-License-Identifier: Apache-2.0

package report

import (
	"iter"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Input is what a page is made from.
type Input struct {
	Title string // empty: one that says what it is
	// Traversals are read once. A traversal is not kept beyond its turn.
	Traversals iter.Seq[*events.Traversal]
	// Facts is asked once the traversals have ended, since what was lost or
	// damaged is known only then; nil: there are none.
	Facts func() Facts
}

// Facts are what is to be said of the traversals as a whole.
type Facts struct {
	Made       time.Time // when the page was made; zero: not said
	Tool       string    // name and version of what made it
	Recordings []Recording
	// Warnings are sentences about what makes the page less than whole: damage,
	// ambiguity between nodes.
	Warnings []string
	// Remarks are sentences worth knowing, such as the offsets between clocks.
	Remarks []string
}

// Recording is one source of traversals. All fields may be empty.
type Recording struct {
	Name     string // of the file
	Node     string
	Kernel   string
	Tool     string // the version that recorded
	Command  string // the command line
	Filter   string // the expression that selected
	OnlyNode string
	Start    time.Time
	End      time.Time
	// Events were recorded of Matched that the kernel side saw, for Packets.
	Events, Matched, Packets uint64
	Lost                     map[string]uint64 // by stage
	Missing                  []string          // hooks that were not attached, with why
	Notes                    []string          // e.g. that it was redacted, or ends early
	Tables                   []Table           // e.g. the IPVS services
}

// Table is a table to show with a recording.
type Table struct {
	Title string     `json:"title"`
	Head  []string   `json:"head"`
	Rows  [][]string `json:"rows"`
}
