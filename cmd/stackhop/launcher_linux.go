// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// launcherEnv marks the process that becomes COMMAND.
const launcherEnv = "STACKHOP_LAUNCHER"

// What a launcher has open beside its standard files: whatever comes in by the first
// is the word to become COMMAND, its end without one to end. By the second goes out a
// byte once it waits, and then the number of the error, or nothing if there was none.
const (
	launcherWord   = 3
	launcherAnswer = 4
)

// canHold: a COMMAND can be made ready before it is to run.
const canHold = true

// isLauncher says whether this process was started to become COMMAND; main then
// calls runLauncher and nothing else.
func isLauncher() bool { return os.Getenv(launcherEnv) != "" }

// runLauncher is the launcher process: its arguments are the path of COMMAND, and its
// words. It was started before privilege was dropped, and so has what the user had.
func runLauncher() int {
	// The terminal's signals, and pkill's by name, are for the tool until then, which ends
	// this process by letting go of the pipe. An exec takes handlers away (man 2 execve).
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1)
	syscall.CloseOnExec(launcherWord)
	syscall.CloseOnExec(launcherAnswer)
	word, answer := os.NewFile(launcherWord, "word"), os.NewFile(launcherAnswer, "answer")
	// Without a reader the tool is gone, here and below.
	_, _ = answer.Write([]byte{1})
	if n, _ := word.Read(make([]byte, 1)); n == 0 {
		return exitDone
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, launcherEnv+"=") })
	err := syscall.Exec(os.Args[1], os.Args[2:], env)
	number := 0
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		number = int(errno)
	}
	_, _ = answer.WriteString(strconv.Itoa(number))
	return exitError
}
