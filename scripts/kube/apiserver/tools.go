// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools makes this module require the programs that scripts/kube/build builds.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
)
