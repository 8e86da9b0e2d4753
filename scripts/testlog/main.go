// SPDX-License-Identifier: Apache-2.0

// Command testlog reads what go test -json writes and prints what a person
// wants to see of it: each package's result, the output of tests that failed,
// and which were skipped and why.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "testlog: %v\n", err)
		os.Exit(1)
	}
}

func run(r io.Reader, w io.Writer) error {
	output := map[string]*strings.Builder{} // by package and test
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(w, in.Text()) // a build error is plain text
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
			continue
		case "pass":
			if e.Test == "" {
				fmt.Fprintf(w, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
			}
		case "fail", "skip", "build-fail":
			fmt.Fprintf(w, "%s  %s  %.1fs\n", strings.ToUpper(e.Action), key, e.Elapsed)
			if b := output[key]; b != nil {
				fmt.Fprint(w, b.String())
			}
		default:
			continue
		}
		delete(output, key)
	}
	return in.Err()
}
