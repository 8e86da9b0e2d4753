// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// CreateFile creates a file for its owner only. One that is there is replaced only
// with force; what is not a file is never touched, and a link never followed.
func CreateFile(path string, force bool) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL // O_EXCL refuses links too
	f, err := os.OpenFile(path, flags, 0o600)
	if !errors.Is(err, os.ErrExist) {
		return f, err
	}
	if err := removeFile(path, force); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flags, 0o600)
}

// Check says early why Create would refuse, as far as can be told.
func Check(o *Options) error {
	if o.Stream != nil {
		return nil
	}
	path := o.Path
	if o.Parts > 0 {
		path = partPath(path, 0)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	if err := inTheWay(path, o.Force); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// removeFile removes a file that is in the way, with force.
func removeFile(path string, force bool) error {
	if err := inTheWay(path, force); err != nil {
		return err
	}
	return os.Remove(path)
}

// inTheWay says why what is at a path may not be replaced; nil: it may.
func inTheWay(path string, force bool) error {
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case st.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link, which is not followed: choose another name, or remove the link", path)
	case st.IsDir():
		return fmt.Errorf("%s is a directory: give the name of a file in it", path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is there and is not a file: choose another name, or - for standard output", path)
	case !force:
		return fmt.Errorf("%s is there already: choose another name, or --force to replace it", path)
	}
	return nil
}

// partPath names a part, the first of which has the number 0: x.hop, 2 → x.0003.hop.
func partPath(path string, part int) string {
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s.%04d%s", strings.TrimSuffix(path, ext), part+1, ext)
}

// removeParts removes the parts of another run that has the same name, with force:
// later they would be in the way, or be taken for parts of this one.
func removeParts(path string, force bool) error {
	dir, base := filepath.Split(path)
	ext := filepath.Ext(base)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), strings.TrimSuffix(base, ext)+".")
		number, isPart := strings.CutSuffix(number, ext)
		if !ok || !isPart || len(number) < 4 || strings.Trim(number, "0123456789") != "" {
			continue
		}
		if err := removeFile(dir+e.Name(), force); err != nil {
			return err
		}
	}
	return nil
}
