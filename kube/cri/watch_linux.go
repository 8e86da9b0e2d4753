// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"

	"golang.org/x/sys/unix"
)

// watch tells when a name appears in a folder.
type watch struct {
	dir  string
	fd   int
	file *os.File // nil: the kernel has none left
}

func newWatch(dir string) *watch {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &watch{dir: dir}
	}
	return &watch{dir: dir, fd: fd, file: os.NewFile(uintptr(fd), "inotify")}
}

// arm begins to watch. The folder may be made later, or anew: arm is called
// again and again, and changes nothing where it is watched already.
func (w *watch) arm() {
	if w.file != nil {
		_, _ = unix.InotifyAddWatch(w.fd, w.dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	}
}

// run calls appeared until the watch is closed. What the names are is not
// read: they may mean anything.
func (w *watch) run(appeared func()) {
	if w.file == nil {
		return
	}
	// Room for the longest of all events.
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		appeared()
	}
}

// close ends run. It is not called beside arm.
func (w *watch) close() {
	if w.file != nil {
		w.file.Close()
	}
}
