// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// trouble is what keeps a kind from being known.
type trouble struct {
	class string // troubles of one class are told once
	text  string // the cause and, if there is one, the way out
	// alone: only this kind is hit, and nothing is to be expected of waiting.
	alone bool
}

// newTrouble says in words what an error means.
func newTrouble(host, resource string, err error) trouble {
	cause := err
	if hidden := (*noAnswer)(nil); errors.As(err, &hidden) {
		cause = hidden.cause
	}
	if plugin := (*pluginError)(nil); errors.As(cause, &plugin) {
		return trouble{class: "plugin", text: fmt.Sprintf("the kubeconfig's credential plugin failed (%v): run it by hand, or log in again", plugin)}
	}
	if untrusted(cause) {
		return trouble{class: "certificate", text: fmt.Sprintf(
			"the API server at %s is not the kubeconfig's (%v): its certificate-authority and server must belong together", host, cause)}
	}
	switch {
	case apierrors.IsUnauthorized(err):
		return trouble{class: "credentials", text: fmt.Sprintf(
			"the API server at %s refuses the credentials (401): they are wrong or have expired; log in again, or give another --kubeconfig or --context", host)}
	case apierrors.IsForbidden(err):
		return trouble{class: "forbidden " + resource, alone: true, text: fmt.Sprintf(
			"the API server at %s forbids to list and watch %s (403): allow get, list and watch on %[2]s to this account (RBAC)", host, resource)}
	case apierrors.IsNotFound(err):
		return trouble{class: "missing " + resource, alone: true, text: fmt.Sprintf(
			"the API server at %s has no %s (404): it is older than Kubernetes 1.21, or not an API server", host, resource)}
	}
	// A restart comes with several of these, one after the other.
	return trouble{class: "away", text: fmt.Sprintf("the API server at %s does not answer as it should (%v)", host, cause)}
}

// untrusted says whether a connection ended at the server's certificate.
func untrusted(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		host         x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}
