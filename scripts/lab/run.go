// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"text/tabwriter"
	"time"
)

// startCase runs a case's client as a process of the client's pod.
func startCase(c testCase, count int, out io.Writer) error {
	if err := prepareCase(c); err != nil {
		return err
	}
	cmd, err := self("client", "-count", strconv.Itoa(count), c.id)
	if err != nil {
		return err
	}
	cmd.Stdout = out
	if err := startIn(c.from, cmd); err != nil {
		return fmt.Errorf("start the client of case %s: %w", c.id, err)
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("case %s did not go as the scenarios say (the client's message is above)", c.id)
	}
	return err
}

// runCases makes the traffic of several cases: the lab's test of itself.
func runCases(chosen []testCase, asJSON bool, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "CASE\tSLUG\tCLIENT\tDIALED\tSERVER\tSAW\tTIME\tOUTCOME")
	}
	good := 0
	for _, c := range chosen {
		var line bytes.Buffer
		start := time.Now()
		err := startCase(c, 1, &line)
		if err == nil {
			good++
		}
		if asJSON {
			out.Write(line.Bytes())
			continue
		}
		writeRow(table, c, line.Bytes(), err, time.Since(start))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "lab: %d of %d cases went as the scenarios say\n", good, len(chosen))
	if good != len(chosen) {
		return errors.New("not all cases went as the scenarios say")
	}
	return nil
}

func writeRow(table io.Writer, c testCase, line []byte, err error, took time.Duration) {
	var r result
	outcome := "ok"
	if jerr := json.Unmarshal(line, &r); jerr != nil {
		outcome = "no result"
	} else if r.Err != "" {
		outcome = r.Err
	}
	if err != nil {
		outcome = "WRONG: " + outcome
	}
	fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%.1fs\t%s\n", c.id, c.slug, r.ClientLocal, c.dial,
		r.Server, r.SawClient, took.Seconds(), outcome)
}
