// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// podImage is the one image there is. The name can be of no registry.
const podImage = "lab.invalid/lab:1"

// writeImage writes an image as `docker save` does, with one file in it: this
// program as /lab, which as a pod's first process waits.
func writeImage(out io.Writer, program []byte) error {
	var layer bytes.Buffer
	if err := writeTar(&layer, tarFile{"lab", 0o755, program}); err != nil {
		return err
	}
	sum := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/lab"}, "Cmd": []string{"pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": "config.json", "RepoTags": []string{podImage}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	return writeTar(out, tarFile{"config.json", 0o644, config}, tarFile{"layer.tar", 0o644, layer.Bytes()},
		tarFile{"manifest.json", 0o644, manifest})
}

type tarFile struct {
	name string
	mode int64
	data []byte
}

func writeTar(out io.Writer, files ...tarFile) error {
	w := tar.NewWriter(out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return w.Close()
}
