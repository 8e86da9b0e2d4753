// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	module  = "github.com/stackhop/stackhop/"
	labTest = module + "scripts/labtest"
)

// Result is what a test of the list came to when it was last run.
type Result struct {
	Test   string // as in Item.Tests
	Where  string // the kernel, as uname -r or the lab's name of it has it
	Status string // pass, fail or skip
	Date   string // 2026-01-02
	Commit string // the state of the repository
}

var fields = []string{"test", "where", "status", "date", "commit"}

// ReadResults reads what WriteResults wrote.
func ReadResults(r io.Reader) (results []Result, err error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(fields)
	rows, err := in.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], fields) {
		return nil, errors.New("these are no results: the first line is another one")
	}
	for _, row := range rows[1:] {
		results = append(results, Result{row[0], row[1], row[2], row[3], row[4]})
	}
	return results, nil
}

// WriteResults writes them in order.
func WriteResults(w io.Writer, results []Result) error {
	slices.SortFunc(results, func(a, b Result) int { return cmp.Or(cmp.Compare(a.Test, b.Test), cmp.Compare(a.Where, b.Where)) })
	out := csv.NewWriter(w)
	if err := out.Write(fields); err != nil {
		return err
	}
	for _, r := range results {
		if err := out.Write([]string{r.Test, r.Where, r.Status, r.Date, r.Commit}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// Merge puts fresh results in the place of older ones of the same test at the same place,
// and leaves out those of tests that the list does not name.
func Merge(old, fresh []Result) (all []Result) {
	type key struct{ test, where string }
	have, listed := map[key]bool{}, map[string]bool{}
	for _, it := range Items {
		for _, t := range it.Tests {
			listed[t] = true
		}
	}
	for _, r := range slices.Concat(fresh, old) {
		if k := (key{r.Test, r.Where}); listed[r.Test] && !have[k] {
			have[k] = true
			all = append(all, r)
		}
	}
	return all
}

// Collect adds what go test -json wrote to results: what tests came to, on the kernel here
// or, of checks of the lab, on the lab's. Of a test that ran more than once the worst counts.
func Collect(results []Result, r io.Reader, here string) ([]Result, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	at := map[Result]int{} // by test and place
	for i, r := range results {
		at[Result{Test: r.Test, Where: r.Where}] = i
	}
	for in.Scan() {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(in.Bytes(), &e) != nil || e.Test == "" || !slices.Contains(worst, e.Action) {
			continue // of a build, of a package, or output
		}
		test, where := name(e.Package, e.Test, here)
		if test == "" {
			continue
		}
		key := Result{Test: test, Where: where}
		i, ok := at[key]
		if !ok {
			i = len(results)
			at[key] = i
			results = append(results, Result{Test: test, Where: where, Status: e.Action})
		}
		if slices.Index(worst, e.Action) > slices.Index(worst, results[i].Status) {
			results[i].Status = e.Action
		}
	}
	return results, in.Err()
}

// worst has what a test can come to, the worst last.
var worst = []string{"skip", "pass", "fail"}

// name is a test as the list has it, and where it ran; "": it is part of another one.
func name(pkg, test, here string) (listed, where string) {
	folder, ok := strings.CutPrefix(pkg, module)
	if !ok {
		return "", ""
	}
	parts := strings.Split(test, "/")
	if pkg == labTest && len(parts) == 2 && parts[0] == "TestNames" {
		return "lab:" + parts[1], "6.12"
	}
	if pkg == labTest && len(parts) == 3 && parts[0] == "TestKernels" {
		return "lab:" + parts[2], parts[1]
	}
	if len(parts) > 1 {
		return "", ""
	}
	return folder + "." + test, here
}

// verdict says in a few words what an item's tests came to.
func verdict(it *Item, results []Result) string {
	passed, where := 0, map[string]bool{}
	var failed, missing []string
	for _, test := range it.Tests {
		ran := false
		for _, r := range results {
			if r.Test != test {
				continue
			}
			switch r.Status {
			case "pass":
				ran, where[r.Where] = true, true
			case "fail":
				ran = true
				failed = append(failed, fmt.Sprintf("%s on %s", base(test), r.Where))
			}
		}
		if ran {
			passed++
		} else {
			missing = append(missing, base(test))
		}
	}
	switch {
	case len(it.Tests) == 0:
		return "–"
	case len(failed) > 0:
		return "**fail**: " + strings.Join(failed, ", ")
	case passed == 0:
		return "not run"
	}
	places := make([]string, 0, len(where))
	for w := range where {
		places = append(places, w)
	}
	slices.Sort(places)
	text := "pass (" + strings.Join(places, ", ") + ")"
	if len(missing) > 0 {
		text += "; not run: " + strings.Join(missing, ", ")
	}
	return text
}

// base is a test's name without its folder.
func base(test string) string { return test[strings.LastIndexAny(test, ".:")+1:] }
