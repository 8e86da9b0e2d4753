// SPDX-License-Identifier: Apache-2.0

// Command testlog reads what go test -json writes and prints what a person
// wants to see of it: each package's result, the output of tests that failed,
// and which were skipped and why. A file that is named gets some lines of each
// failure added, for where only the end of a long output is kept.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// place begins what testing prints of an error or log.
var place = regexp.MustCompile(`^ +\w+_test\.go:\d+: `)

func main() {
	digest := io.Discard
	if len(os.Args) > 1 {
		f, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintf(os.Stderr, "testlog: %v\n", err)
			os.Exit(1)
		}
		defer f.Close()
		digest = f
	}
	if err := run(os.Stdin, os.Stdout, digest); err != nil {
		fmt.Fprintf(os.Stderr, "testlog: %v\n", err)
		os.Exit(1)
	}
}

func run(r io.Reader, w, digest io.Writer) error {
	told := map[string]bool{}               // packages and tests of which a part failed
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
			text := ""
			if b := output[key]; b != nil {
				text = b.String()
			}
			fmt.Fprint(w, text)
			if e.Action == "skip" {
				break
			}
			if !told[key] {
				fmt.Fprintf(digest, "%s\n%s", key, essence(text))
			}
			for part := e.Test; part != ""; {
				part = part[:max(strings.LastIndexByte(part, '/'), 0)]
				told[e.Package+" "+part] = true
			}
		default:
			continue
		}
		delete(output, key)
	}
	return in.Err()
}

// essence is the first lines of a test's errors, or the last of anything else.
func essence(text string) string {
	const most, width = 3, 200
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var errors []string
	for _, line := range lines {
		if place.MatchString(line) {
			errors = append(errors, line)
		}
	}
	if len(errors) == 0 {
		errors = lines[max(0, len(lines)-most):]
	}
	var b strings.Builder
	for _, line := range errors[:min(len(errors), most)] {
		fmt.Fprintf(&b, "    %.*s\n", width, strings.TrimSpace(line))
	}
	return b.String()
}
