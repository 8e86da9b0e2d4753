// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/stackhop/stackhop/events"
)

// cmdCapture records the events of the ten cases in one run of the tool, and
// cuts them into a file for each case: what the tests of stitching stand on.
func cmdCapture(args []string) error {
	fs := flags("capture")
	path := fs.String("tool", "", "stackhop's program (default: beside this one, or on PATH)")
	rest, err := parse(fs, args, 1, "[-tool PATH] FOLDER")
	if err != nil {
		return err
	}
	c := &checker{}
	if c.tool, err = findTool(*path); err != nil {
		return err
	}
	if c.me, err = os.Executable(); err != nil {
		return err
	}
	// Neighbours and bridges have learned what they need: the captures are of the
	// connections alone, and alike on all kernels.
	if err := runCases(cases[:ten], true, io.Discard); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lab-capture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	whole := filepath.Join(dir, "whole")
	list, all, _, err := c.runTraced([]string{"--capture", whole, "tcp or icmp"})
	if err != nil {
		return err
	}
	// Goldens are made of these: what is wrong now must not become one.
	assign(list, all)
	var faults []string
	for _, v := range list {
		v.compare()
		for _, f := range v.faults() {
			faults = append(faults, "case "+v.c.id+": "+f)
		}
	}
	if err := faultsError(faults); err != nil {
		return err
	}
	return cutCapture(whole, rest[0], list)
}

// cutCapture writes each case's events to a file of its own. The cases ran one
// after the other: the packets that began in its time are a case's.
func cutCapture(whole, to string, list []*verified) error {
	f, err := os.Open(whole)
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := events.ReadCapture(f)
	if err != nil {
		return err
	}
	first := map[uint64]uint64{} // when a packet was first seen
	for i := range all.Events {
		e := &all.Events[i]
		if t, ok := first[e.Packet]; !ok || e.Time < t {
			first[e.Packet] = e.Time
		}
	}
	for i, v := range list {
		end := uint64(1<<63 - 1)
		if i+1 < len(list) {
			end = uint64(list[i+1].r.Started)
		}
		var part []events.Event
		for _, e := range all.Events {
			if t := first[e.Packet]; t >= uint64(v.r.Started) && t < end {
				e.Link, e.Bytes = events.Link{}, nil // stitching does not need them
				part = append(part, e)
			}
		}
		if err := writePart(filepath.Join(to, "case"+v.c.id+".jsonl"), all, v.c, oneOfEach(part)); err != nil {
			return fmt.Errorf("case %s: %w", v.c.id, err)
		}
	}
	return nil
}

// smallEnough is how many events a capture may have: some 100 KiB of text.
const smallEnough = 620

// oneOfEach leaves out what goes the same ways as other packets that are there,
// so that the files stay small: the acknowledgements behind the first one of
// each direction, and, if that is not enough, the ends of the connection.
func oneOfEach(part []events.Event) []events.Event {
	const fin, ack = 0x01, 0x10
	seen := map[string]bool{}
	known, again, ends := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
	for i := range part {
		e := &part[i]
		if e.Ext != events.ExtHeader || known[e.Packet] {
			continue
		}
		known[e.Packet] = true
		from := e.Header.Tuple.Src.String()
		switch {
		case e.Header.TCPFlags == ack:
			again[e.Packet] = seen[from]
			seen[from] = true
		case e.Header.TCPFlags&fin != 0:
			ends[e.Packet] = true
		}
	}
	part = slices.DeleteFunc(part, func(e events.Event) bool { return again[e.Packet] })
	if len(part) > smallEnough {
		part = slices.DeleteFunc(part, func(e events.Event) bool { return ends[e.Packet] })
	}
	return part
}

// writePart writes the events with a header of what they need.
func writePart(path string, all *events.Capture, c testCase, part []events.Event) error {
	if len(part) == 0 {
		return errors.New("no events")
	}
	h := events.NewCaptureHeader(all.Hooks, all.Names, part)
	h.Kernel, h.HasFunctions, h.Note = all.Header.Kernel, all.Header.HasFunctions, "lab case "+c.id+", "+c.slug
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(events.WriteCapture(f, &h, part), f.Close())
}
