// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// moreEffort compares what the verifier took for each program with what it is known to
// take on this kernel series: a tenth more or less is not meant, or has to be written
// down (-update).
func moreEffort(t *testing.T, got, want string) (out []string) {
	wanted := effort(t, want)
	for program, n := range effort(t, got) {
		was, ok := wanted[program]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("program %s is not in the table", program))
		case n > was+was/10 || n < was-was/10:
			out = append(out, fmt.Sprintf("program %s: %d instructions verified, %d in the table", program, n, was))
		}
		delete(wanted, program)
	}
	for program := range wanted {
		out = append(out, fmt.Sprintf("program %s of the table was not loaded", program))
	}
	slices.Sort(out)
	return out
}

// effort maps the programs of a table to the instructions that were verified.
func effort(t *testing.T, text string) map[string]int {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("no table of instructions: %v\n%s", err, text)
	}
	out := map[string]int{}
	for _, row := range rows[1:] {
		if out[row[1]+" "+row[2]], err = strconv.Atoi(row[3]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// The comparison itself, without a machine.
func TestMoreEffort(t *testing.T) {
	table := func(rows ...string) string {
		return "series,hooks,program,instructions,states\n" + strings.Join(rows, "\n") + "\n"
	}
	want := table("7.3,all,path,1000,90", "7.3,all,end,100,9")
	for name, tt := range map[string]struct {
		got  string
		want int
	}{
		"the same":    {want, 0},
		"a tenth":     {table("7.4,all,path,1100,90", "7.4,all,end,90,9"), 0},
		"more":        {table("7.3,all,path,1101,90", "7.3,all,end,100,9"), 1},
		"less":        {table("7.3,all,path,1000,90", "7.3,all,end,89,9"), 1},
		"one is new":  {want + "7.3,all,tc_path,5,1\n", 1},
		"one is gone": {table("7.3,all,path,1000,90"), 1},
	} {
		if got := moreEffort(t, tt.got, want); len(got) != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
