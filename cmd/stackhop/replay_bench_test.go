// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// benchRecording writes the same traffic again and again, one second apart.
func benchRecording(b *testing.B, times int) (path string, n int) {
	f, err := os.Open(filepath.FromSlash("../../events/testdata/captures/6.12-case5.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	c, err := events.ReadCapture(f)
	f.Close()
	if err != nil {
		b.Fatal(err)
	}
	meta := &record.Meta{RunID: "bench", HasFunctions: true}
	for _, h := range c.Hooks {
		meta.Hooks = append(meta.Hooks, record.Hook{ID: h.ID, Name: h.Name, Station: events.StationName(h.Station)})
	}
	path = filepath.Join(b.TempDir(), "x.hop")
	r, err := record.Create(record.Options{Path: path}, meta, c.Names)
	if err != nil {
		b.Fatal(err)
	}
	for k := range uint64(times) {
		for _, e := range c.Events {
			e.Time += k * 1e9
			e.Packet += k << 40
			if e.Flow != 0 {
				e.Flow += k << 40
			}
			if e.Other != 0 {
				e.Other += k << 40
			}
			r.Event(&e)
			n++
		}
		if err := r.Tick(c.Events[0].Time + (k+1)*1e9 - 1); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.Close(&record.End{}); err != nil {
		b.Fatal(err)
	}
	return path, n
}

// BenchmarkReplay is from the file to the traversals: reading and stitching.
func BenchmarkReplay(b *testing.B) {
	path, n := benchRecording(b, 200)
	sources, err := openSources([]string{path})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		found := 0
		_, err := sources[0].replayTo(context.Background(), &playing{reuse: true}, func(*events.Traversal) error { found++; return nil })
		if err != nil || found == 0 {
			b.Fatal(found, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkReport is from a file of 100,000 traversals to its page.
func BenchmarkReport(b *testing.B) {
	const traversals = 100_000
	path, _ := benchRecording(b, traversals/8) // a time has eight of them
	to := filepath.Join(b.TempDir(), "x.html")
	for b.Loop() {
		w := newWorld(b)
		if status := w.run("report", path, "--force", "-o", to); status != 0 {
			b.Fatal(status, w.stderr.String())
		}
		if said := w.stderr.String(); !strings.Contains(said, fmt.Sprint(traversals, " traversals")) {
			b.Fatal(said)
		}
	}
}
