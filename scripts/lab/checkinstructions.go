// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// verifiedVariant is the run whose programs have the most in them.
const verifiedVariant = "all recording sets"

// instructions loads every program with the tracer's own test, which labtest puts
// beside this one, and leaves what the verifier took for each.
func (c *checker) instructions() error {
	dir, err := os.MkdirTemp("", "lab-instructions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	table := filepath.Join(dir, "table")
	said, err := output(filepath.Join(filepath.Dir(c.me), "tracer.test"), "-test.v", "-test.run", "^TestNativeInstructionBudget$",
		"-update", "-budget", table, "-variant", verifiedVariant)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(string(said), 12))
	}
	text, err := os.ReadFile(table)
	if err != nil {
		return err
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil {
		return err
	}
	most, name := 0, ""
	for _, row := range rows[1:] {
		if n, err := strconv.Atoi(row[3]); err != nil {
			return err
		} else if n > most {
			most, name = n, row[2]
		}
	}
	c.fact("%d programs accepted, at most %d instructions verified (%s)", len(rows)-1, most, name)
	return c.leave("instructions", string(text))
}
