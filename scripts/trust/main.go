// SPDX-License-Identifier: Apache-2.0

// Command trust takes what tests came to, as go test -json wrote it, into the list of what
// must hold: it keeps the results of the tests that the list names (results.csv), writes
// scripts/TRUST.md anew and prints it. Without files it prints what is known.
//
//	go run ./scripts/trust [FILE...]
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/scripts/internal/trust"
)

const (
	resultsFile = "scripts/internal/trust/results.csv"
	pageFile    = "scripts/TRUST.md"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "trust: %v\n", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	results, err := known()
	if err != nil {
		return err
	}
	fresh, err := collect(files)
	if err != nil {
		return err
	}
	results = trust.Merge(results, fresh)
	var table, page bytes.Buffer
	if err := errors.Join(trust.WriteResults(&table, results), trust.Write(&page, results)); err != nil {
		return err
	}
	if len(files) > 0 {
		// For all to read, as all of the repository.
		if err := errors.Join(os.WriteFile(resultsFile, table.Bytes(), 0o644), os.WriteFile(pageFile, page.Bytes(), 0o644)); err != nil { //nolint:gosec // see above
			return err
		}
	}
	_, err = os.Stdout.Write(page.Bytes())
	return err
}

func known() ([]trust.Result, error) {
	f, err := os.Open(resultsFile)
	if err != nil {
		return nil, fmt.Errorf("%w: run it in the repository's root", err)
	}
	defer f.Close()
	return trust.ReadResults(f)
}

// collect reads the files, each of which was written when its tests had run.
func collect(files []string) (all []trust.Result, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	commit, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=7").Output()
	if err != nil {
		return nil, fmt.Errorf("the state of the repository: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	here := unix.ByteSliceToString(u.Release[:])
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		when, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if all, err = trust.Collect(all, f, here); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for i := range all {
			if all[i].Date == "" {
				all[i].Date, all[i].Commit = when.ModTime().UTC().Format(time.DateOnly), strings.TrimSpace(string(commit))
			}
		}
	}
	return all, nil
}
