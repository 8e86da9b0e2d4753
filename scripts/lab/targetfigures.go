// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// figures are what the benchmarks left in a folder; each part may be absent.
type figures struct {
	runs    []benchFigure          // make bench
	charts  map[string]*plot.Chart // make bench-growth, by the picture's name
	goRuns  map[string][]goRun     // make bench-go, by the benchmark's name
	goWhere string
}

// A goRun is one line of a Go benchmark: its values by their units.
type goRun map[string]float64

// readFigures reads bench.json, growth/*.json and bench-go.txt.
func readFigures(dir string) (*figures, error) {
	f := &figures{charts: map[string]*plot.Chart{}, goRuns: map[string][]goRun{}}
	if text, err := present(filepath.Join(dir, "bench.json")); err != nil {
		return nil, err
	} else if err := f.readRuns(text); err != nil {
		return nil, err
	}
	for _, one := range growths {
		text, err := present(filepath.Join(dir, "growth", one.name+".json"))
		if err != nil {
			return nil, err
		}
		if len(text) == 0 {
			continue
		}
		if f.charts[one.name], err = plot.Read(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("growth/%s.json: %w", one.name, err)
		}
	}
	text, err := present(filepath.Join(dir, "bench-go.txt"))
	if err != nil {
		return nil, err
	}
	f.readGo(text)
	if len(f.runs)+len(f.charts)+len(f.goRuns) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, errNoFigures)
	}
	return f, nil
}

// present is a file's text; nothing if it is absent.
func present(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (f *figures) readRuns(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		var one benchFigure
		if err := dec.Decode(&one); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("bench.json: %w", err)
		}
		f.runs = append(f.runs, one)
	}
}

// goLine is a result of go test -bench: name-PROCESSORS, rounds, then values and units.
var goLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.+)$`)

func (f *figures) readGo(text []byte) {
	pkg := ""
	in := bufio.NewScanner(bytes.NewReader(text))
	for in.Scan() {
		line := in.Text()
		if name, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = name[strings.LastIndexByte(name, '/')+1:]
		}
		if name, ok := strings.CutPrefix(line, "cpu: "); ok {
			f.goWhere = strings.Join(strings.Fields(name), " ") // as CPUID fills it
		}
		m := goLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		run := goRun{}
		for words := strings.Fields(m[2]); len(words) >= 2; words = words[2:] {
			if v, err := strconv.ParseFloat(words[0], 64); err == nil {
				run[words[1]] = v
			}
		}
		f.goRuns[pkg+"."+m[1]] = append(f.goRuns[pkg+"."+m[1]], run)
	}
}

// bench is a value of a load beside a way on each kernel: the median of its rounds.
func (f *figures) bench(site, load, way string, value func(*benchFigure) float64) (list []seen) {
	byKernel := map[string][]float64{}
	var order []string
	for i := range f.runs {
		r := &f.runs[i]
		if r.Site != site || r.Load != load || r.Way != way || r.Cost == nil || r.Run == nil {
			continue
		}
		v := value(r)
		if math.IsNaN(v) {
			continue // not measured
		}
		if byKernel[r.Kernel] == nil {
			order = append(order, r.Kernel)
		}
		byKernel[r.Kernel] = append(byKernel[r.Kernel], v)
	}
	for _, k := range order {
		list = append(list, seen{median(byKernel[k]), fmt.Sprintf("%s, %s, median of %d", k, site, len(byKernel[k]))})
	}
	return list
}

func shareKept(f *benchFigure) float64  { return 100 * f.Ratio }
func attachTime(f *benchFigure) float64 { return f.Run.Attach }
func detachTime(f *benchFigure) float64 { return f.Run.Detach }
func bytesEvent(f *benchFigure) float64 { return bytesRecorded(f.Run) }

// lineTime is not a number where no line came: that was not quick.
func lineTime(f *benchFigure) float64 {
	if f.Cost.Lag == 0 {
		return math.NaN()
	}
	return f.Cost.Lag
}

// point is a picture's value at an x.
func (f *figures) point(chart, series string, x float64) []seen {
	c := f.charts[chart]
	if c == nil {
		return nil
	}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if s.Name == series && p.X == x {
				return []seen{{p.Y, chartWhere(c)}}
			}
		}
	}
	return nil
}

// chartWhere is the beginning of a picture's note: its kernel.
func chartWhere(c *plot.Chart) string {
	where, _, _ := strings.Cut(c.Note, ",")
	return strings.TrimPrefix(where, "Linux ") + ", pair"
}

// timesText is what the note of memory says of its load.
var timesText = regexp.MustCompile(`[0-9.]+ times what was read`)

// peak is the most memory that the long run took.
func (f *figures) peak() []seen {
	c := f.charts["memory"]
	if c == nil {
		return nil
	}
	most, last := 0.0, 0.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			if s.Name == seriesPeak {
				most, last = max(most, p.Y), max(last, p.X)
			}
		}
	}
	return []seen{{most, fmt.Sprintf("%s, %.0f s, %s", chartWhere(c), last, timesText.FindString(c.Note))}}
}

// flat is the most memory of the long run's last minute, in percent of the first's;
// nothing if it was too short to have both.
func (f *figures) flat() []seen {
	c := f.charts["memory"]
	if c == nil {
		return nil
	}
	const minute = 60
	for _, s := range c.Series {
		if s.Name != seriesResident || len(s.Points) == 0 {
			continue
		}
		first, late := 0.0, 0.0
		end := s.Points[len(s.Points)-1].X
		for _, p := range s.Points {
			if p.X <= minute {
				first = max(first, p.Y)
			}
			if p.X >= end-minute {
				late = max(late, p.Y)
			}
		}
		if end < 2*minute || first == 0 {
			return nil
		}
		return []seen{{100 * late / first, fmt.Sprintf("%s, %.0f s: %.0f MiB of %.0f", chartWhere(c), end, late, first)}}
	}
	return nil
}

// goBench is a Go benchmark's value, turned into another: the median of its runs.
func (f *figures) goBench(name, unit string, turn func(float64) float64) []seen {
	var all []float64
	for _, r := range f.goRuns[name] {
		if v, ok := r[unit]; ok {
			all = append(all, turn(v))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return []seen{{median(all), fmt.Sprintf("%s, median of %d (%.3g to %.3g)", f.goWhere, len(all), slices.Min(all), slices.Max(all))}}
}

// growth is a benchmark's CPU time in percent of another's.
func (f *figures) growth(name, of string) []seen {
	many, one := f.goBench(name, "cpu-ns/op", asIs), f.goBench(of, "cpu-ns/op", asIs)
	if len(many) == 0 || len(one) == 0 || one[0].value == 0 {
		return nil
	}
	return []seen{{100 * many[0].value / one[0].value, fmt.Sprintf("%s, %.0f ns of %.0f", f.goWhere, many[0].value, one[0].value)}}
}

// remembered is what an event would cost of many flows, in percent of one, if nothing but
// remembering them cost more: what that takes by itself, for a packet of so many events.
func (f *figures) remembered(selected string) []seen {
	const tables, eventsPerPacket = "events.Remembered/all/flows=", 24
	stitch := "tracer.Stitch/selected=" + selected + "/flows=1"
	seenOf := f.growth(stitch+"000000", stitch)
	one, few, many := f.goBench(stitch, "cpu-ns/op", asIs), f.goBench(tables+"1", "ns/op", asIs), f.goBench(tables+"1000000", "ns/op", asIs)
	if len(seenOf)*len(few)*len(many) == 0 {
		return nil
	}
	return []seen{{100 + 100*(many[0].value-few[0].value)/eventsPerPacket/one[0].value, seenOf[0].where}}
}

// atRest is the memory with which the long run began.
func (f *figures) atRest() (list []seen) {
	for _, s := range f.peak() {
		for _, series := range f.charts["memory"].Series {
			if series.Name == seriesResident && len(series.Points) > 0 {
				list = append(list, seen{series.Points[0].Y, s.where})
			}
		}
	}
	return list
}

func asIs(v float64) float64       { return v }
func perSecond(ns float64) float64 { return 1e9 / ns }
func seconds(ns float64) float64   { return ns / 1e9 }
