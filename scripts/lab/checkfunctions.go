// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// functionTests are tests of the tracer that make test may run with tracepoints only, and
// their flags.
var functionTests = []struct{ name, flags string }{
	{"TestNativeFlood", "-flood 1000000"},
	{"TestNativeTwoTracers", ""},
	{"TestNativeCycles", "-cycles 8"},
	{"TestNativeAttachFailures", "-every 12"},
}

// functions runs the tracer's own tests, which labtest puts beside this one, with all hooks.
func (c *checker) functions() error {
	for _, test := range functionTests {
		args := append([]string{"-test.v", "-test.run", "^" + test.name + "$", "-hooks", "all"}, strings.Fields(test.flags)...)
		said, err := output(filepath.Join(filepath.Dir(c.me), "tracer.test"), args...)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", test.name, err, lastLines(string(said), 30))
		}
		if !strings.Contains(string(said), "--- PASS: "+test.name+" ") {
			return fmt.Errorf("there is no %s:\n%s", test.name, lastLines(string(said), 30))
		}
		for line := range strings.Lines(string(said)) {
			if _, text, ok := strings.Cut(line, "_test.go:"); ok {
				c.fact("%s: %s", test.name, strings.TrimSpace(text))
			}
		}
	}
	return nil
}
