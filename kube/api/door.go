// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// maxAnswer is what one answer may have, in bytes: a page of pods has some
// megabytes. Streams have no end, and are bounded event by event.
const maxAnswer = 128 << 20

var (
	errLong = errors.New("its answer is too long")
	errSlow = errors.New("it does not answer in time")
)

// noAnswer is an error of getting an answer at all. It hides its cause from the
// client library, which would take a cut connection for the end of a watch.
type noAnswer struct{ cause error }

func (*noAnswer) Error() string { return "no answer" }

// door is what all requests go through.
type door struct {
	next   http.RoundTripper
	plugin *plugin // nil: the credentials are in the configuration
}

func (d *door) RoundTrip(req *http.Request) (*http.Response, error) {
	var used *credential
	if d.plugin != nil {
		var err error
		if used, err = d.plugin.credential(req.Context()); err != nil {
			return nil, &noAnswer{err}
		}
		if used.token != "" {
			req = req.Clone(req.Context())
			req.Header.Set("Authorization", "Bearer "+used.token)
		}
	}
	resp, err := d.next.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			err = cause
		}
		return nil, &noAnswer{err}
	}
	if resp.StatusCode == http.StatusUnauthorized && used != nil {
		d.plugin.refused(used)
	}
	if !req.URL.Query().Has("watch") {
		resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, nil
}

// limitedBody fails where an answer goes on for too long.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errLong
	}
	return n, err
}
